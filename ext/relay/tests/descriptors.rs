//! Descriptors run out: nothing spins, what is idle makes room, and service goes on when there are some again.
//!
//! The limit holds for a whole process, so the test runs itself once more in one that has few of them.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use super::*;

const CHILD: &str = "GPA_TEST_FEW_DESCRIPTORS";

#[test]
fn exhausted_descriptors_neither_spin_nor_end_the_service() {
    if std::env::var_os(CHILD).is_some() {
        return with_few_descriptors();
    }
    let name = "relay::tests::descriptors::exhausted_descriptors_neither_spin_nor_end_the_service";
    let script = format!("ulimit -n 200; exec \"$0\" --exact {name} --nocapture");
    let run = Command::new("/bin/sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().expect("this test"))
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
}

/// Every descriptor that is left.
fn hoard() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn with_few_descriptors() {
    let stage = Stage::new(|host| host.always(OK));
    let mut hoarded = hoard();
    hoarded.pop();
    let mut first = stage.connect();
    // The connection waits in the queue, and is looked at ten times a second and not more.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(350) {
        thread::sleep(Duration::from_millis(10));
    }
    let looks = stage.counter("exhausted");
    assert!((1..=6).contains(&looks), "{looks} looks in 350 ms");
    drop(hoarded);
    first.send(GET);
    assert_eq!(first.answer().text(), "hello");

    // Its connection to the host is idle now, and makes room for another caller.
    let mut hoarded = hoard();
    hoarded.pop();
    let accepted = stage.counter("accepted");
    let mut other = stage.connect();
    stage.await_counter("accepted", accepted + 1);
    drop(hoarded);
    other.send(GET);
    assert_eq!(other.answer().text(), "hello");
    assert_eq!(stage.host_connections(), 2);
}

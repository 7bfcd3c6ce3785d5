//! Answers on their way back: each framing of HTTP/1.1, for each kind of caller; broken ones; slow readers.

use std::time::Duration;

use super::*;

const HEAD: &[u8] = b"HEAD /metadata/instance HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";
const GET_1_0: &[u8] = b"GET /metadata/instance HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n";

#[test]
fn answers_without_a_body_do_not_wait_for_one() {
    for (request, method, head) in [
        (HEAD, "HEAD", &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..]),
        (HEAD, "HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (GET, "GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, "GET", b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n"),
        (GET, "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let stage = Stage::new(|host| host.always(head));
        let mut client = stage.connect();
        for _ in 0..2 {
            client.send(request);
            let answer = client.answer_to(method);
            assert_eq!((answer.body.len(), answer.field("connection")), (0, None));
        }
        assert_eq!(stage.host_connections(), 1, "{}", String::from_utf8_lossy(head));
    }
}

#[test]
fn interim_answers_pass_and_100_does_not() {
    let both = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let stage = Stage::new(|host| host.always(both));
    let mut client = stage.connect();
    client.send(GET);
    assert_eq!(client.answer().status, 103);
    assert_eq!(client.answer().text(), "hello");
    // A 1.0 caller knows no interim answers.
    assert_eq!(stage.ask(GET_1_0).text(), "hello");
}

#[test]
fn chunks_pass_as_they_came_with_extensions_and_trailers() {
    const BODY: &[u8] = b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-End: 1\r\n\r\n";
    let stage = Stage::new(|mut host| {
        while host.request().is_some() {
            host.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n");
            for byte in BODY {
                host.answer(&[*byte]);
            }
        }
    });
    let mut client = stage.connect();
    for _ in 0..2 {
        client.send(GET);
        let head = read_head(&mut client.0).expect("an answer");
        assert!(head.starts_with(b"HTTP/1.1 200"));
        let mut body = vec![0; BODY.len()];
        client.0.read_exact(&mut body).expect("a body");
        assert_eq!(body, BODY);
    }
    assert_eq!(stage.host_connections(), 1);
}

#[test]
fn a_1_0_caller_gets_the_chunks_content() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let stage = Stage::new(|host| host.always(chunked));
    let answer = stage.ask(GET_1_0);
    assert_eq!((answer.text(), answer.field("transfer-encoding")), ("hello world", None));
}

#[test]
fn an_answer_that_ends_with_its_connection() {
    let stage = Stage::new(|mut host| {
        host.request();
        host.answer(b"HTTP/1.1 200 OK\r\n\r\nhello");
    });
    for _ in 0..2 {
        let mut client = stage.connect();
        client.send(GET);
        let answer = client.answer();
        assert_eq!((answer.text(), answer.field("connection")), ("hello", Some("close")));
    }
    assert_eq!(stage.host_connections(), 2);
    assert_eq!(stage.records(2)[0].response_bytes, 5);
}

#[test]
fn a_large_answer_to_a_slow_reader_is_not_buffered() {
    const SIZE: usize = 10_000_000;
    let stage = Stage::new(|mut host| {
        host.request();
        host.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes());
        host.answer(&pattern(SIZE));
    });
    let mut client = stage.connect();
    client.send(GET);
    read_head(&mut client.0).expect("an answer");
    // Nothing is read until the relay has filled its window and the socket's buffers.
    thread::sleep(Duration::from_millis(50));
    let mut body = vec![0; SIZE];
    for piece in body.chunks_mut(777_777) {
        client.0.read_exact(piece).expect("a body");
    }
    assert!(body == pattern(SIZE), "the answer came through changed");
    assert_eq!(stage.records(1)[0].response_bytes, SIZE as u64);
}

pub(super) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| u8::try_from(n * 31 % 251).expect("below 251")).collect()
}

#[test]
fn an_answer_in_single_bytes_is_whole() {
    let stage = Stage::new(|mut host| {
        host.stream.set_nodelay(true).expect("a socket");
        while host.request().is_some() {
            for byte in OK {
                host.answer(&[*byte]);
            }
        }
    });
    let mut client = stage.connect();
    for _ in 0..3 {
        client.send(GET);
        assert_eq!(client.answer().text(), "hello");
    }
    assert_eq!(stage.host_connections(), 1);
}

#[test]
fn a_broken_answer_is_502_and_its_connection_is_not_used_again() {
    for answer in [
        &b"nonsense\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ] {
        let stage = Stage::new(move |host| if host.number == 0 { host.always(answer) } else { host.always(OK) });
        let words = String::from_utf8_lossy(answer);
        assert_eq!(stage.ask(GET).status, 502, "{words}");
        assert_eq!(stage.ask(GET).status, 200, "{words}");
        assert_eq!(stage.host_connections(), 2, "{words}");
    }
}

#[test]
fn an_answer_that_stops_half_way_ends_the_connection() {
    for length in 1..OK.len() {
        let stage = Stage::new(move |mut host| {
            host.request();
            host.answer(&OK[..length]);
        });
        let mut client = stage.connect();
        client.send(GET);
        let got = client.rest();
        let head = OK.len() - "hello".len();
        if length < head {
            assert!(got.starts_with(b"HTTP/1.1 502 "), "{length}: {}", String::from_utf8_lossy(&got));
        } else {
            assert!(got.starts_with(b"HTTP/1.1 200 ") && got.ends_with(&OK[head..length]), "{length}");
        }
    }
}

#[test]
fn bytes_after_an_answer_reach_nobody() {
    let stage = Stage::new(|host| {
        host.always(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        );
    });
    let mut client = stage.connect();
    for _ in 0..3 {
        client.send(GET);
        assert_eq!(client.answer().text(), "hello");
    }
    assert_eq!(stage.host_connections(), 3);
}

#[test]
fn bytes_that_nobody_asked_for_close_a_kept_connection() {
    let (sent, late) = channel();
    let stage = Stage::new(move |mut host| {
        while host.request().is_some() {
            host.answer(OK);
            if host.number == 0 {
                thread::sleep(Duration::from_millis(20));
                host.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
                let _ = sent.send(());
            }
        }
    });
    let mut client = stage.connect();
    client.send(GET);
    assert_eq!(client.answer().text(), "hello");
    late.recv_timeout(PATIENCE).expect("sent");
    client.send(GET);
    assert_eq!(client.answer().text(), "hello");
    assert_eq!(stage.host_connections(), 2);
}

#[test]
fn an_answer_that_comes_before_the_body_is_passed_on() {
    let stage = Stage::new(|mut host| {
        let head = read_head(&mut host.stream).expect("a request");
        assert!(head.starts_with(b"PUT /vmAgentLog "));
        host.answer(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge");
        // Reads on, as a host that does not want to reset would.
        let _ = host.stream.read_to_end(&mut Vec::new());
    });
    stage.caller(Some(user(0, Endpoint::HostGa)));
    let mut client = stage.connect();
    client.send(b"PUT /vmAgentLog HTTP/1.1\r\nHost: 168.63.129.16:32526\r\nContent-Length: 1000000\r\n\r\nsome");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (413, "large"));
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

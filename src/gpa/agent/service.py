"""The agent's life: the order of start and stop, and the tasks in between.

Start: own the listener, then redirect to it, then accept, then READY. Nothing waits for the host:
requests that come before the first status are held by the relay. Stop: when no endpoint is enforced
or unknown, stop redirecting, drain, take everything away; else drain and leave what is pinned, so
that connects are refused and nothing goes out unsigned until the next start.

Everything from outside comes as `Tools` (tools.py), so that tests run the whole life on a mock
clock.
"""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from gpa.agent import memory, rows, tags
from gpa.agent.audit import Auditor
from gpa.agent.channel import ALL_DISABLED
from gpa.agent.clock import HostClock
from gpa.agent.host import HostChannel, LatchShell
from gpa.agent.limits import Limits
from gpa.agent.listener import Door
from gpa.agent.local import LocalEndpoints
from gpa.agent.namespaces import Namespaces
from gpa.agent.older import Older
from gpa.agent.provisioning import LIMIT, Provisioning
from gpa.agent.reports import Reports
from gpa.agent.rules import closed_table
from gpa.agent.status import RUNNING, Parts, aggregate
from gpa.agent.strangers import Strangers
from gpa.agent.summary import Summary
from gpa.agent.watch import Watch
from gpa.agent.watchdog import show_life
from gpa.endpoints import Endpoint, Mode
from gpa.errors import GpaError, PortTakenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.agent.latch import Key
    from gpa.agent.log import Log
    from gpa.agent.rules import Compiled
    from gpa.agent.systemd import Notifier
    from gpa.agent.tools import Interception, Tools
    from gpa.config import Config

FAST_POLL: Final = 1.0
FAST_POLL_FOR: Final = 300.0
"""Seconds: at first the host is asked each second, until all is ready (docs/protocol.md)."""

PORT_RETRY_FIRST: Final = 1.0
PORT_RETRY_MOST: Final = 30.0
"""Seconds between two tries to own a taken port, doubling."""

RECORD_BATCH: Final = 0.1
"""Seconds between two looks at the records under load; a thread's ring holds what comes in that."""


class Agent:
    """One life of the agent."""

    def __init__(
        self, config: Config, tools: Tools, log: Log, notifier: Notifier, version: str
    ) -> None:
        self._config = config
        self._tools = tools
        self._log = log
        self._notifier = notifier
        self._version = version
        self._started = 0.0
        self._latch, trouble = memory.recall(config.latch_key_folder)
        if trouble:
            log.warn(trouble)
        self._reports = Reports(config, log)
        self._clock = HostClock()
        channel = HostChannel(tools.connect, self._clock, tools.relay.set_clock)
        self._shell = LatchShell(
            self._latch,
            channel,
            tools.keys,
            publish=self._publish,
            remember=partial(self._reports.remember, self._latch),
            report=self._report,
        )
        self._parts = Parts()
        self._summary = Summary()
        self._auditor = Auditor(
            tools.names,
            self._summary,
            everything=config.enable_http_proxy_trace
            or config.file_log_level in ("Trace", "Debug"),
        )
        self._limits = Limits()
        self._older = Older(tools.reset_older, log)
        self._provisioning: Provisioning | None = None
        self._local = LocalEndpoints(tools.relay, tools.decode_caller, self)
        self._strangers = Strangers(tools.relay, tools.decode_caller, tools.policy)
        self._interception: Interception | None = None
        self._door = Door(tools.listener, notifier)
        self._namespaces = Namespaces(
            config.network_namespaces, tools.relay, log, notifier, kept=tools.kept_elsewhere
        )
        self._nudge = trio.Event()
        self._publishing = trio.Lock()
        self._watch = Watch(self._publish, log)
        self._epoch = 0
        self._compiled: Compiled | None = None
        self._in_force: tuple[object, ...] = ()

    async def run(self) -> None:
        """Live until SIGTERM or SIGINT.

        Raises:
            GpaError: the start failed for good; nothing is left behind.
        """
        self._started = trio.current_time()
        self._provisioning = Provisioning(self._started)
        tags.clear_old(self._config.latch_key_folder)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._obey, signals, nursery.cancel_scope)
                    nursery.start_soon(self._watch_provisioning)
                    await self._publish()
                    interception = await self._attach()
                    if interception.guard is not None:
                        nursery.start_soon(interception.guard.watch, self._log)
                    nursery.start_soon(self._namespaces.run, interception.netns)
                    nursery.start_soon(self._older.end, self.modes)
                    nursery.start_soon(self._poll)
                    nursery.start_soon(self._watch.run)
                    nursery.start_soon(self._monitor)
                    nursery.start_soon(self._take)
                    nursery.start_soon(self._strangers.run, partial(self._publish, names=False))
                    if self._notifier.watchdog is not None:
                        nursery.start_soon(show_life, self._notifier, self._tools.relay)
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop()

    # What the local endpoints and tests ask.

    @property
    def modes(self) -> dict[Endpoint, Mode]:
        """Modes in force."""
        modes = dict(self._latch.modes)
        if self._config.host_ga_plugin_support == 0:
            modes[Endpoint.HOSTGA] = Mode.DISABLED
        return modes

    def provision_answer(self, tick: int, *, notify: bool) -> dict[str, object]:
        """Answer to `/provision`; `notify` has the host asked at once unless finished."""
        if self._provisioning is None:
            return {"finished": False, "errorMessage": ""}
        answer = self._provisioning.answer(tick, latched=self._latch.ready)
        if notify and not answer["finished"]:
            self._nudge.set()
        return answer

    def aggregate(self) -> dict[str, Any]:
        """The aggregate status as of now."""
        self._refresh_parts()
        ids = self._compiled.ids if self._compiled else {}
        return aggregate(self._version, self._parts, self._latch, ids, self._summary)

    # Start.

    async def _attach(self) -> Interception:
        """Own the listener and redirect to it; a taken port is tried again, nothing attached."""
        pause = PORT_RETRY_FIRST
        while True:
            try:
                self._interception = await trio.to_thread.run_sync(
                    self._tools.attach, self._door.open
                )
                break
            except PortTakenError as error:
                self._door.close()
                self._parts.listener.stop(str(error))
                self._parts.ebpf.stop("not attached: the listener comes first")
                self._log.error(f"{error}: nothing is redirected, trying again in {pause:.0f} s")
                self._notifier.status(str(error))
            await trio.sleep(pause)
            pause = min(2 * pause, PORT_RETRY_MOST)
        self._interception.set_modes(self.modes)
        if self._door.socket is None:
            raise GpaError("the interception was attached without a listener")
        self._tools.relay.set_records_map(self._interception.records_map)
        self._tools.relay.listen(self._door.socket.fileno())
        self._door.keep()
        address = "{}:{}".format(*self._door.socket.getsockname()[:2])
        self._parts.ebpf.run("attached")
        self._parts.listener.run(f"listening on {address}")
        self._log.info(f"version {self._version}, listening on {address}, interception attached")
        self._notifier.ready(f"listening on {address}, waiting for the host")
        self._older.elsewhere = self._interception.netns.netlink_elsewhere
        return self._interception

    # Tasks.

    async def _obey(self, signals: Any, scope: trio.CancelScope) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._nudge.set()
                continue
            self._log.info(f"stopping on {signal.Signals(number).name}")
            scope.cancel()
            return

    async def _poll(self) -> None:
        while True:
            self._nudge = trio.Event()
            await self._shell.round()
            await self._publish()  # local files, users and programs change without the host
            await self._after_round()
            young = trio.current_time() - self._started < FAST_POLL_FOR
            fast = young and not self._latch.ready
            pause = FAST_POLL if fast else self._config.poll_key_status_interval
            with trio.move_on_after(self._compiled.pause(pause) if self._compiled else pause):
                await self._nudge.wait()

    async def _after_round(self) -> None:
        was_ready = self._parts.latch.status == "RUNNING"
        self._refresh_parts()
        await self._update_provisioning()
        if self._latch.ready and not was_ready:
            self._notifier.status(f"{self._latch.state}: {self._latch.message}")
            await self._write_status()

    async def _watch_provisioning(self) -> None:
        await trio.sleep(LIMIT)
        await self._update_provisioning()

    async def _update_provisioning(self) -> None:
        if self._provisioning is None:
            return
        self._refresh_parts()
        now, unix_ns = trio.current_time(), time.time_ns()
        if not self._provisioning.update(now, unix_ns, self._parts.troubles()):
            return
        error = self._provisioning.error
        if error:
            self._log.error(f"provisioning has finished with an error: {error}")
        else:
            self._log.info("provisioning has finished")
        await self._reports.tags(self._provisioning.finished_unix_ns or unix_ns, error)

    async def _monitor(self) -> None:
        self._parts.monitor.run()
        while True:
            self._say_limits()
            await self._write_status()
            await trio.sleep(self._config.monitor_interval)

    def _say_limits(self) -> None:
        counters = self._tools.relay.counters()
        if self._interception is not None:
            counters = counters | self._interception.counters()
        for words in self._limits.risen(counters):
            self._log.warn(words)

    async def _take(self) -> None:
        """Records and questions of the relay, as they come, in batches."""
        relay = self._tools.relay
        while True:
            relay.arm()
            # What came before it was armed would not wake us.
            if not await self._take_once():
                await trio.lowlevel.wait_readable(relay.wake_fd())
                self._reports.clear_wake(relay.wake_fd())
                continue
            await trio.sleep(RECORD_BATCH)

    async def _take_once(self) -> bool:
        asked = self._local.answer_all() | self._strangers.take()
        relay = self._tools.relay
        data = relay.take_records(rows.AT_ONCE)
        if data:
            # Taken and written in one thread: a burst of batches is one wake-up.
            batches = rows.batches(
                data, relay.take_records, lambda d: self._tools.split(d, self._auditor.rule_words)
            )
            await self._reports.audit(self._auditor, batches)
            await self._watch.after_refusals(self._auditor)
        return asked or bool(data)

    # What the latch asks for.

    async def _publish(self, *, names: bool = True) -> None:
        """Bring modes, rules and key of the latch into force, when anything has changed."""
        # One at a time: what was compiled last must be what is published last.
        async with self._publishing:
            await self._publish_now(names)

    async def _publish_now(self, names: bool) -> None:
        status = self._latch.status_in_force
        items = status.rules if status and not self._latch.absent else dict.fromkeys(Endpoint)
        modes, key = self.modes, self._latch.key
        compiled = await self._tools.policy.compile(
            modes, items, self._auditor.seen_uids, names=names
        )
        self._watch.follow(compiled.watched)
        now = (compiled.table, key, tuple(modes.items()))
        if now == self._in_force:
            return
        self._epoch += 1
        self._namespaces.set_modes(modes)
        # Names first: a record of the new epoch may come at once.
        self._auditor.epochs.add(self._epoch, compiled.names)
        self._tools.relay.publish(self._snapshot(compiled, modes, key))
        if self._interception is not None:
            self._interception.set_modes(modes)
            await self._older.end(modes)
        before, self._compiled, self._in_force = self._compiled, compiled, now
        for trouble in compiled.troubles:
            if before is None or trouble not in before.troubles:
                self._log.error(trouble)
        for note in compiled.notes:
            if before is None or note not in before.notes:
                self._log.info(note)
        if before is None or before.document != compiled.document:
            await self._reports.rules(compiled.document, self._epoch)
        if names:  # and not for each caller that is met
            self._log.info(f"epoch {self._epoch} in force: {self._latch.state}")

    def _snapshot(self, compiled: Compiled, modes: Mapping[Endpoint, Mode], key: Key | None) -> Any:
        try:
            return self._tools.snapshot(self._epoch, compiled.table, key)
        except ValueError as error:
            # What is checked one by one did not fit together: nothing opens because of that.
            self._log.error(f"the rules cannot be used, everything is refused: {error}")
            return self._tools.snapshot(self._epoch, closed_table(modes), key)

    def _report(self, words: str, trouble: bool) -> None:
        if trouble:
            self._log.warn(words)
        else:
            self._log.info(words)

    def _refresh_parts(self) -> None:
        if self._latch.ready:
            self._parts.latch.run(self._latch.message)
        else:
            self._parts.latch.stop(self._latch.message)
        there = self._interception is None or self._interception.is_attached()
        if not there and self._parts.ebpf.status == RUNNING:
            self._parts.ebpf.stop("detached by somebody: restart the agent")
            self._log.error("the interception was detached by somebody: restart the agent")

    async def _write_status(self) -> None:
        await self._reports.status(self.aggregate())

    # Stop.

    async def _stop(self) -> None:
        self._notifier.stopping()
        relay, interception = self._tools.relay, self._interception
        stays = any(mode in (Mode.ENFORCE, Mode.UNKNOWN) for mode in self.modes.values())
        if interception is not None and not stays:
            # No new connect is redirected; those that were go on being served.
            interception.set_modes(ALL_DISABLED)
        if interception is not None:
            # Who waits in the queue is served now, unless the next start takes the queue over.
            take_waiting = not (stays and self._notifier.keeps)
            drained = await trio.to_thread.run_sync(
                relay.drain, float(self._config.drain_timeout), take_waiting
            )
            if not drained:
                self._log.warn("requests were still running when the time to drain was over")
            while await self._take_once():
                pass
            await trio.to_thread.run_sync(interception.leave if stays else interception.release)
        await trio.to_thread.run_sync(relay.stop)
        self._namespaces.close(forget=not stays)
        self._door.close(forget=not stays)
        if interception is not None:
            wait = "wait for" if self._notifier.keeps else "are refused until"
            words = (
                f"stopped: the interception stays, connects {wait} the next start"
                if stays
                else "stopped: nothing is left behind"
            )
            self._parts.listener.stop("stopped")
            self._parts.ebpf.stop("pinned" if stays else "detached")
            await self._write_status()
            self._log.info(words)
        self._reports.close()

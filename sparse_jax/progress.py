"""Progress of long work, as one line on stderr: rate, remaining time and current figures."""

import sys
import time

# On a terminal the line is rewritten; a log file gets new lines, and therefore fewer.
TERMINAL_SECONDS = 0.2
PLAIN_SECONDS = 10.0

# Whether the terminal's cursor is at the end of a progress line; shared by all writers of the process.
_unfinished = False


def finish_line() -> None:
    """Ends a terminal's progress line, so that the next output starts on a new line."""
    global _unfinished
    if _unfinished:
        _unfinished = False
        sys.stderr.write("\n")
        sys.stderr.flush()


class Progress:
    """Reports work counted in `unit`s up to `total`, of which `start` were already done.

    shown: False if another process reports the same work.
    """

    def __init__(self, label: str, total: int, unit: str, start: int = 0, shown: bool = True):
        self._label, self._total, self._unit, self._start = label, total, unit, start
        self._terminal, self._silent = sys.stderr.isatty(), not shown
        self._every = TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS
        self._began = self._shown = time.monotonic()
        self._done, self._figures = start, ""
        # at the first update: the time before it includes compilation and says nothing about the rate
        self._first: tuple[float, int] | None = None

    def update(self, done: int, **figures: float) -> None:
        """Records that `done` units are done in total, with figures to show; prints from time to time."""
        self._done = done
        self._figures = "".join(f" | {name} {_figure(value)}" for name, value in figures.items())
        now = time.monotonic()
        self._first = self._first or (now, done)
        if now - self._shown >= self._every:
            self._shown = now
            self._write(self._line(now))

    def close(self) -> None:
        """Prints the last line: what was done and how long it took."""
        seconds = time.monotonic() - self._began
        done = f"{self._done:,}" if self._done == self._total else f"{self._done:,} of {self._total:,}"
        overall = (self._done - self._start) / max(seconds, 1e-9)
        rate = f" ({_amount(overall)} {self._unit}/s)" if self._done > self._start else ""
        self._write(f"{self._label}: {done} {self._unit} in {_duration(seconds)}{rate}{self._figures}")
        finish_line()

    def _line(self, now: float) -> str:
        share = f"{100 * self._done / self._total:.0f} %" if self._total else ""
        line = f"{self._label}: {self._done:,}/{self._total:,} {self._unit} {share}"
        rate = self._rate(now)
        if rate > 0:
            left = max(self._total - self._done, 0) / rate
            line += f" | {_amount(rate)} {self._unit}/s | {_duration(left)} left"
        return line + self._figures

    def _rate(self, now: float) -> float:
        """Units per second since the first update; 0 while unknown."""
        began, done = self._first or (now, self._done)
        return (self._done - done) / (now - began) if now > began else 0.0

    def _write(self, line: str) -> None:
        global _unfinished
        if self._silent:
            return
        _unfinished = self._terminal
        sys.stderr.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        sys.stderr.flush()


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"

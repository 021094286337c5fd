#!/usr/bin/env python3
"""Records `posthaste up --demo` in a terminal and draws the recording as an SVG.

    docs/images/record.py target/release/posthaste > docs/images/demo.svg

Each line appears at the time at which the program printed it. The drawing needs no script: it moves by CSS
animations, so it also plays inside an <img>. Where animations are off, it shows the last frame. The API key that the
program prints is replaced by `ph_…`. Needs Python 3.9 on a Unix, and port 8080.
"""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import time
from xml.sax.saxutils import escape

COMMAND = ["up", "--demo"]
LAST_LINE = "posthaste endpoint list"
COLUMNS = 146  # wide enough for the demonstration's table without a wrapped cell
SECONDS = 60  # what a slow machine may take

CHARACTER, LINE, MARGIN, BAR = 7.25, 18, 18, 34  # pixels
COLOURS = {"9": "#f47067", "10": "#57ab5a", "11": "#daaa3f"}  # those of the 256 that Posthaste uses
SGR = re.compile(r"\x1b\[([0-9;]*)m")


def record(program):
    """Runs the demonstration; returns [(seconds, text of a line)]."""
    folder = tempfile.mkdtemp(prefix="posthaste-demo.")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHASTE_", "NO_COLOR"))}
        os.execve(program, [program, *COMMAND], {**kept, "TERM": "xterm-256color", "POSTHASTE_LOG": "off"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    begun, lines, rest = time.monotonic(), [], b""
    try:
        while time.monotonic() - begun < SECONDS:
            if not select.select([terminal], [], [], 0.2)[0]:
                continue
            try:
                read = os.read(terminal, 65536)
            except OSError:  # the program ended: Linux answers EIO
                break
            now = time.monotonic() - begun
            *whole, rest = (rest + read).split(b"\n")
            lines += [(now, line.rstrip(b"\r").decode()) for line in whole]
            if any(LAST_LINE in text for _, text in lines):
                return lines
    finally:
        os.kill(child, signal.SIGINT)
        os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)
    printed = "\n".join(text for _, text in lines)
    sys.exit(f"the demonstration did not come to its last line; it printed:\n{printed}")


def spans(text):
    """Cuts a line at its colours: [(colour or None, text)]."""
    colour, found, position = None, [], 0
    for change in SGR.finditer(text):
        found.append((colour, text[position : change.start()]))
        code = change.group(1)
        colour = COLOURS.get(code.removeprefix("38;5;")) if code.startswith("38;5;") else None
        position = change.end()
    found.append((colour, text[position:]))
    return [(colour, part) for colour, part in found if part]


def draw(lines):
    """The SVG's text."""
    lines = [(0.0, "$ posthaste " + " ".join(COMMAND))] + [(at + 0.6, text) for at, text in lines]
    lines = [(at, re.sub(r"ph_[\w-]{20,}", "ph_…", text)) for at, text in lines]
    plain = [SGR.sub("", text).rstrip() for _, text in lines]
    width = round(max(map(len, plain)) * CHARACTER + 2 * MARGIN)
    height = BAR + len(lines) * LINE + MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    yield "<title>posthaste up --demo: a notification to each receiver, and the outcome of each delivery</title>"
    yield "<style>"
    yield "text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #cdd9e5; white-space: pre }"
    yield ".line { animation: appear 0.05s both }"
    yield "@keyframes appear { from { opacity: 0 } to { opacity: 1 } }"
    yield "@media (prefers-reduced-motion: reduce) { .line { animation: none } }"
    yield "</style>"
    yield f'<rect width="{width}" height="{height}" rx="8" fill="#1c2128"/>'
    for place, colour in enumerate(("#f47067", "#daaa3f", "#57ab5a")):
        yield f'<circle cx="{MARGIN + 18 * place}" cy="17" r="5.5" fill="{colour}"/>'
    for number, (at, text) in enumerate(lines):
        if not SGR.sub("", text).strip():
            continue
        baseline = BAR + (number + 1) * LINE - 5
        yield f'<g class="line" style="animation-delay: {at:.2f}s">'
        column = 0
        for colour, part in spans(text.rstrip()):
            # Each run of characters says how wide it is, so columns stay in line whatever font the reader has.
            for word in re.finditer(r"\S+(?: \S+)*", part):
                left = MARGIN + (column + word.start()) * CHARACTER
                fill = f' style="fill: {colour}"' if colour else ""
                size = f'textLength="{len(word.group()) * CHARACTER:.2f}" lengthAdjust="spacingAndGlyphs"'
                yield f'<text x="{left:.2f}" y="{baseline}" {size}{fill}>{escape(word.group())}</text>'
            column += len(part)
        yield "</g>"
    yield "</svg>"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("\n".join(draw(record(os.path.abspath(sys.argv[1])))))


main()

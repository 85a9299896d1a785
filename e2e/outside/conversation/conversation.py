"""How a story in Rust and a script here speak: a line of JSON at a time, over standard input and output.

The first line in is what the script has to know; then it asks as often as it likes, and ends by saying what came of it:
see conversation.mjs.
"""

import json
import sys


def hear():
    line = sys.stdin.readline()
    if not line:
        sys.exit("the story has ended")
    return json.loads(line)


def say(line):
    print(json.dumps(line), flush=True)


def ask(question):
    say({"ask": question})
    return hear()


def done(result):
    say({"done": result})


settings = hear()

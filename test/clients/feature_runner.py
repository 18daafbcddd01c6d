"""Runs one feature of a client: `python3 program.py URL FEATURE`, and prints its result as JSON."""

import asyncio
import inspect
import json
import sys

_features = {}


def feature(name):
    """Names a function that takes a connection string and gives what it has seen."""

    def register(function):
        _features[name] = function
        return function

    return register


def run():
    url, name = sys.argv[1:]
    function = _features[name]
    seen = asyncio.run(function(url)) if inspect.iscoroutinefunction(function) else function(url)
    print(json.dumps(seen))

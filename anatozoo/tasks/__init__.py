"""From a network's output to a result, once per kind of answer."""

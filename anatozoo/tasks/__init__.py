"""From a network's answer to a result, once per kind of answer."""

"""verify.suite: the engines run as commands of their own, and what they said gathered in one folder."""

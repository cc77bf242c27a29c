"""Votes that are made for a test."""

import numpy as np

from models.learning.vote_arrays import NONE, UNKNOWN, Votes


def made_votes(answers, rewards=1, labels=UNKNOWN, keys=None, **others):
    """Votes on answers. A single value counts for all; keys are 20 users in turn by default."""
    answers = np.asarray(answers)
    count = len(answers)

    def each(values, kind):
        return np.broadcast_to(np.asarray(values, kind), count).copy()

    users = [f"key:user{number % 20}" for number in range(count)]
    return Votes(
        images=others.get("images", np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)),
        answers=answers,
        rewards=each(rewards, np.float32),
        labels=each(labels, np.int64),
        keys=np.array(users) if keys is None else each(keys, np.str_),
        times=np.arange(count, dtype=np.float64),
        versions=each(others.get("versions", 1), np.int64),
        admins=each(others.get("admins", False), np.bool_),
        challengers=each(others.get("challengers", NONE), np.int64),
        disputed=each(others.get("disputed", False), np.bool_),
        canary=each(others.get("canary", False), np.bool_),
    )

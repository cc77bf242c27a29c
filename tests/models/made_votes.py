"""Votes that are made for a test."""

import time

import numpy as np

from models.learning.vote_arrays import NONE, UNKNOWN, Votes
from models.votes import Prediction


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


def predictions(count, *, version=1, name=""):
    """Dark pictures that a version of MNIST's LeNet has answered, numbered from 0 behind `name`."""
    now = time.time()
    return [
        Prediction(
            id=f"{name}{number}",
            dataset="mnist",
            architecture="lenet",
            rule="metaplastic",
            version=version,
            answer=1,
            asker="key:a",
            made=now,
            expires=now + 60,
            pixels=np.zeros((28, 28, 1), np.uint8),
        )
        for number in range(count)
    ]

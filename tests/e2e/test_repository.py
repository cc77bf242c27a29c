"""Models come and go while the service runs, asked by NVIDIA's client or by SIGHUP."""

import contextlib
import hashlib
import json
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from app.web.keys import hash_of
from tests.app.made import scores
from tests.e2e.conftest import PATIENCE, ROOT, Service
from tests.e2e.digits import FOLDER, LABELS, MODEL, VERSION, as_bytes

Start = Callable[..., AbstractContextManager[Service]]
OTHER = "mnist-lenet-backprop"
ADMIN = {"X-API-Key": "root's"}
USER = {"X-API-Key": "alice's"}


def put(repository: Path, version: int, model: bytes | None = None, **changes: Any) -> Path:
    """Put a copy of the real LeNet in the model repository, or `model` under its card."""
    data = model if model is not None else (FOLDER / "model.onnx").read_bytes()
    card = json.loads((FOLDER / "card.json").read_text())
    files = {**card["files"], "model.onnx": hashlib.sha256(data).hexdigest()}
    folder = repository / f"mnist/{changes.get('architecture', 'lenet')}/metaplastic/{version}"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(data)
    changed = {**card, "version": version, "files": files, **changes}
    (folder / "card.json").write_text(json.dumps(changed))
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """LeNet's version 1, and its baseline as published."""
    root = tmp_path / "repository"
    put(root, 1)
    shutil.copytree(ROOT / "weights/mnist/lenet/backprop", root / "mnist/lenet/backprop")
    return root


@pytest.fixture
def service(start: Start, repository: Path, tmp_path: Path) -> Iterator[Service]:
    keys = tmp_path / "keys"
    keys.write_text(f"root admin {hash_of(ADMIN['X-API-Key'])}\n")
    with keys.open("a") as file:
        file.write(f"alice user {hash_of(USER['X-API-Key'])}\n")
    with start(workers=2, weights=repository, keys=keys) as one:
        yield one


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}") as one:
        yield one


def answers(client: Any, version: str = "") -> str:
    """The version that reads our digits."""
    sent = triton.InferInput("images", [3, 28, 28, 1], "UINT8")
    sent.set_data_from_numpy(as_bytes())
    # A copy: the client writes headers of its own into what it is given.
    result = client.infer(MODEL, [sent], model_version=version, headers={**USER})
    assert result.as_numpy("probabilities").argmax(axis=1).tolist() == LABELS
    return str(result.get_response()["model_version"])


def index(client: Any) -> set[tuple[str, str, str]]:
    rows = client.get_model_repository_index(headers=USER)
    return {(row["name"], row["version"], row["state"]) for row in rows}


def test_a_new_version_is_loaded_beside_the_old_one(client: Any, repository: Path) -> None:
    assert answers(client) == "1"
    put(repository, 2)
    assert answers(client) == "1"  # until somebody says so
    client.load_model(MODEL, headers=ADMIN)
    for _ in range(6):  # whichever worker is asked
        assert answers(client) == "2"
        assert answers(client, "1") == "1"
    assert client.get_model_metadata(MODEL, headers=USER)["versions"] == ["1", "2"]
    assert index(client) == {
        (MODEL, "1", "READY"),
        (MODEL, "2", "READY"),
        (OTHER, VERSION, "READY"),
    }


@pytest.mark.parametrize("fault", ["not a model", "another checksum", "no card", "other classes"])
def test_a_bad_version_never_replaces_a_good_one(
    client: Any, service: Service, repository: Path, fault: str
) -> None:
    if fault == "not a model":
        put(repository, 3, b"not a model")
    elif fault == "other classes":
        put(repository, 3, labels=["one", "two"], **scores(2))
    else:
        folder = put(repository, 3)
        (folder / ("card.json" if fault == "no card" else "model.onnx")).write_text("{}")
    _wait_until(lambda: len(service.workers) == 2)  # a service is ready with the first
    workers = service.workers
    with pytest.raises(
        InferenceServerException, match="The served models stay as they are"
    ) as caught:
        client.load_model(MODEL, headers=ADMIN)
    assert caught.value.status() == "400"
    assert service.workers == workers
    service.process.send_signal(signal.SIGHUP)  # nor where nobody has tried it before
    _wait_until(lambda: not workers & service.workers)
    for _ in range(6):
        assert answers(client) == "1"
    assert str(repository / "mnist/lenet/metaplastic/3") in service.log.read_text()


def test_a_model_is_unloaded_and_loaded_again(client: Any, service: Service) -> None:
    client.unload_model(OTHER, headers=ADMIN)
    for _ in range(6):
        assert not client.is_model_ready(OTHER, headers=USER)
    assert index(client) == {(MODEL, "1", "READY"), (OTHER, "", "UNAVAILABLE")}
    card = requests.get(
        f"{service.url}/api/mnist/lenet?rule=backprop", headers=USER, timeout=PATIENCE
    )
    assert card.json()["code"] == "unknown_rule"
    with pytest.raises(InferenceServerException, match="no model"):
        client.unload_model(MODEL, headers=ADMIN)  # the last one
    assert answers(client) == "1"
    client.load_model(OTHER, headers=ADMIN)
    for _ in range(6):
        assert client.is_model_ready(OTHER, headers=USER)


def test_a_reload_that_fails_is_no_success_and_changes_nothing(
    client: Any, service: Service, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    good = keys.read_text()
    keys.write_text(good + "no line of keys\n")  # over which a reload stumbles
    with pytest.raises(InferenceServerException, match="The models stay") as caught:
        client.unload_model(OTHER, headers=ADMIN)
    assert caught.value.status() == "503"
    assert client.is_model_ready(OTHER, headers=USER)
    keys.write_text(good)
    workers = service.workers
    service.process.send_signal(signal.SIGHUP)  # the next one finds nothing left of it
    _wait_until(lambda: len(service.workers) == 2 and not workers & service.workers)
    assert client.is_model_ready(OTHER, headers=USER)


def test_a_new_architecture_has_its_own_endpoint_at_once(
    client: Any, service: Service, repository: Path
) -> None:
    put(repository, 1, architecture="copy")
    client.load_model("mnist-copy-metaplastic", headers=ADMIN)
    url = f"{service.url}/api/mnist/copy?sample=seven"
    answer = requests.post(url, headers=USER, timeout=PATIENCE)
    assert answer.json()["predictions"][0]["label"] == "7"
    spec = requests.get(f"{service.url}/swagger.json", timeout=PATIENCE).json()
    assert "/api/mnist/copy" in spec["paths"]


def test_only_an_admin_loads(client: Any) -> None:
    for ask in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="admin") as caught:
            ask(MODEL, headers=USER)
        assert caught.value.status() == "403"
    with pytest.raises(InferenceServerException, match="no model 'nonet'"):
        client.load_model("nonet", headers=ADMIN)


def test_metrics_show_the_versions_that_are_loaded_and_keep_their_counts(
    client: Any, service: Service, repository: Path
) -> None:
    def scrape() -> str:
        return requests.get(f"{service.url}/metrics", headers=USER, timeout=PATIENCE).text

    counted = f'metaplastic_predictions_total{{label="3",model="{MODEL}",version="1"}} 1.0'
    answers(client)
    assert counted in scrape()
    put(repository, 3)
    client.load_model(MODEL, headers=ADMIN)
    text = scrape()
    assert counted in text
    loaded = 'metaplastic_model_loaded{{default="{}",model="{}",version="{}"}} 1.0'
    assert loaded.format("true", MODEL, 3) in text
    assert loaded.format("false", MODEL, 1) in text


def test_callers_do_not_notice_that_models_are_swapped(service: Service, repository: Path) -> None:
    found: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            url = f"{service.url}/predict?sample=seven"
            try:
                answer = requests.post(url, headers=USER, timeout=PATIENCE)
                found[f"{answer.status_code} v{answer.json()['version']}"] += 1
            except requests.RequestException as error:
                found[f"lost: {error!r}"] += 1

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        _wait_until(lambda: found["200 v1"] > 20)
        put(repository, 3)
        url = f"{service.url}/v2/repository/models/{MODEL}/load"
        assert requests.post(url, headers=ADMIN, timeout=PATIENCE).status_code == 200
        _wait_until(lambda: found["200 v3"] > 20)
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert set(found) == {"200 v1", "200 v3"}, found


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        with contextlib.suppress(OSError):
            time.sleep(0.01)  # between two looks

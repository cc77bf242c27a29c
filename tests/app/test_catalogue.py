"""The model repository decides what is served, and what is wrong with it is said with its path."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app import create_app
from app.catalogue.catalogue import Catalogue, RepositoryError
from app.catalogue.load import load_catalogue
from app.errors import RequestError
from app.settings import Settings
from tests.app.asking import refused
from tests.app.made import scores


def load(folder: Path, model: str = "mnist/lenet") -> Catalogue:
    return load_catalogue(Settings(weights=folder, model=model))


def test_a_whole_repository_is_served(put_model: Callable[..., Path], tmp_path: Path) -> None:
    put_model("mnist/lenet/metaplastic/1")
    put_model("cifar10/vgg/metaplastic/1", dataset="cifar10", architecture="vgg")
    catalogue = load(tmp_path)
    assert list(catalogue.endpoints) == ["cifar10/vgg", "mnist/lenet"]
    assert catalogue.default.name == "mnist/lenet"


def test_a_run_folder_is_served(put_model: Callable[..., Path]) -> None:
    assert list(load(put_model("run")).endpoints) == ["mnist/lenet"]


def test_another_endpoint_can_be_the_default(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model("a")
    put_model("b", dataset="cifar10", architecture="vgg")
    assert load(tmp_path, "cifar10/vgg").default.name == "cifar10/vgg"
    assert load(tmp_path, "no/such").default.name == "cifar10/vgg"


def test_the_newest_version_answers_and_an_older_one_on_request(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    for version in (1, 10, 2):
        put_model(f"lenet/{version}", version=version)
    endpoint = load(tmp_path).default
    assert endpoint.find().card.version == 10
    assert endpoint.find("metaplastic", 2).card.version == 2


def test_the_card_that_claims_it_is_the_default(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model("a", rule="metaplastic", default=False)
    put_model("b", rule="backprop", default=True)
    assert load(tmp_path).default.find().card.rule == "backprop"


def test_without_a_claim_the_first_known_rule_is_the_default(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    for rule in ("zebra", "backprop", "brainprop"):
        put_model(rule, rule=rule, default=False)
    assert list(load(tmp_path).default.models) == ["brainprop", "backprop", "zebra"]


def test_an_unknown_rule_or_version_is_answered_with_those_there_are(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model()
    endpoint = load(tmp_path).default
    with pytest.raises(RequestError) as caught:
        endpoint.find("none")
    assert (caught.value.status, caught.value.details) == (404, {"rules": ["metaplastic"]})
    with pytest.raises(RequestError) as caught:
        endpoint.find(version=7)
    assert (caught.value.status, caught.value.details) == (404, {"versions": [1]})


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"METAPLASTIC_WEIGHTS: .*nowhere does not exist"):
        load(tmp_path / "nowhere")


def test_an_empty_repository_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"no model in .* python -m models publish RUN"):
        load(tmp_path)


def test_a_broken_card_is_named(put_model: Callable[..., Path], tmp_path: Path) -> None:
    (put_model() / "card.json").write_text("{")
    with pytest.raises(RepositoryError, match=r"card\.json: is not JSON"):
        load(tmp_path)


def test_a_card_without_its_model_is_named(put_model: Callable[..., Path], tmp_path: Path) -> None:
    (put_model() / "model.onnx").unlink()
    with pytest.raises(
        RepositoryError, match=r"model\.onnx: cannot be read .* python -m models export"
    ):
        load(tmp_path)


def test_a_changed_model_is_refused(put_model: Callable[..., Path], tmp_path: Path) -> None:
    put_model(files={"model.onnx": "0" * 64})
    with pytest.raises(RepositoryError, match="SHA-256 differs"):
        load(tmp_path)


def test_of_two_models_of_one_name_and_version_the_first_is_served(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model("run-a")
    put_model("run-b")
    catalogue = load(tmp_path)
    assert [model.folder.name for model in catalogue] == ["run-a"]
    assert "run-a and " in catalogue.problems["run-b"]
    assert "run-b are both mnist-lenet-metaplastic version 1" in catalogue.problems["run-b"]


def test_two_endpoints_of_one_name_are_never_versions_of_one_model(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model("first", dataset="a", architecture="b-c", version=1)
    put_model("second", dataset="a-b", architecture="c", version=2)
    catalogue = load(tmp_path)
    assert list(catalogue.endpoints) == ["a/b-c"]
    # Under another rule Flask would have two routes of one name.
    put_model("third", dataset="a-b", architecture="c", version=1, rule="backprop")
    assert set(load(tmp_path).problems) == {"second", "third"}
    assert (
        "a-b/c and a/b-c are both called a-b-c in the standard protocols"
        in catalogue.problems["second"]
    )


def test_names_that_look_like_other_routes_have_routes_of_their_own(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    known = ["a/x", "a/x-curves", "a/x-compare", "models/x", "predict/models", "x/compare-x"]
    for name in known:
        dataset, architecture = name.split("/")
        put_model(name, dataset=dataset, architecture=architecture)
    client = create_app(Settings(weights=tmp_path)).test_client()
    document = client.get("/swagger.json").json
    operations = [one for path in document["paths"].values() for one in path.values()]
    tags = [tag["name"] for tag in document["tags"]]
    for names in tags, [one["operationId"] for one in operations]:
        assert len(set(names)) == len(names)
    for name in known:
        assert client.get(f"/api/{name}").json["endpoint"] == f"/api/{name}"


def test_a_name_that_cannot_be_a_url_is_refused(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model(dataset="<path:x>")
    with pytest.raises(RepositoryError, match="cannot stand in a URL"):
        load(tmp_path)


def test_a_model_that_is_no_model_is_named_when_its_session_opens(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    (put_model(files={}) / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(RepositoryError, match=r"model\.onnx: ONNX Runtime cannot run it"):
        load(tmp_path).open_first_sessions()


def test_a_model_with_other_classes_than_its_card_is_refused(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model(labels=["one", "two"], **scores(2))
    with pytest.raises(RepositoryError, match="for one image of 2 classes"):
        load(tmp_path).open_first_sessions()


def test_what_no_checksum_vouches_for_is_tried_at_the_start(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model("default")
    (put_model("other", architecture="vgg", files={}) / "model.onnx").write_bytes(b"not a model")
    catalogue = load(tmp_path)
    catalogue.open_first_sessions()
    assert list(catalogue.problems) == ["other"]
    assert "ONNX Runtime cannot run it" in catalogue.problems["other"]


def broken_card(folder: Path) -> None:
    (folder / "card.json").write_text("{")


def card_without_labels(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    del card["labels"]
    (folder / "card.json").write_text(json.dumps(card))


def changed_model(folder: Path) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"x")


def no_model(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def card_is_a_pipe(folder: Path) -> None:
    (folder / "card.json").unlink()
    os.mkfifo(folder / "card.json")


def model_is_a_pipe(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")


@pytest.mark.parametrize(
    "damage",
    [
        *(broken_card, card_without_labels, changed_model, no_model),
        *(card_is_a_pipe, model_is_a_pipe),
    ],
)
def test_a_damaged_model_is_left_out_and_the_others_serve(
    put_model: Callable[..., Path],
    make_client: Callable[..., FlaskClient],
    seven: bytes,
    damage: Callable[[Path], None],
) -> None:
    put_model("good")
    damage(put_model("bad", architecture="vgg"))
    client = make_client()
    assert client.get("/health/ready").json == {
        "status": "ready",
        "models": 1,
        "unavailable": ["bad"],
    }
    repository = client.get("/api/models").json
    assert [row["endpoint"] for row in repository["models"]] == ["/api/mnist/lenet"]
    assert repository["unavailable"] == ["bad"]
    assert client.post("/predict", data=seven, content_type="image/png").status_code == 200
    assert client.post("/api/mnist/vgg", data=seven).status_code == 404


def test_a_model_that_turns_out_not_to_run_is_unavailable_and_the_others_serve(
    put_model: Callable[..., Path], make_client: Callable[..., FlaskClient], seven: bytes
) -> None:
    """Its checksum is right: what was published cannot be run by this machine's ONNX Runtime."""
    put_model("good")
    nonsense = b"not a model"
    checksum = {"model.onnx": hashlib.sha256(nonsense).hexdigest()}
    bad = put_model("bad", architecture="vgg", files=checksum)
    (bad / "model.onnx").write_bytes(nonsense)
    client = make_client()
    for _ in range(2):
        response = client.post("/api/mnist/vgg", data=seven, content_type="image/png")
        error = refused(response, 503, "model_unavailable")
        assert error["message"].startswith("mnist-vgg-metaplastic version 1 cannot be run")
    assert client.get("/health/ready").json["unavailable"] == ["bad"]
    assert client.get("/api/models").json["unavailable"] == ["bad"]
    (status,) = client.get("/v1/models/mnist-vgg-metaplastic").json["model_version_status"]
    assert (status["state"], status["status"]["error_code"]) == ("END", "UNKNOWN")
    assert "ONNX Runtime" in status["status"]["error_message"]
    served = [line for line in client.get("/metrics").text.splitlines() if "model_loaded{" in line]
    assert ["mnist-lenet-metaplastic" in line for line in served] == [True]
    compared = client.post("/api/mnist/compare", data=seven, content_type="image/png").json
    assert [result["architecture"] for result in compared["results"]] == ["lenet"]


@pytest.mark.parametrize("served", ["", "mnist", "mnist/vgg"])
def test_a_broken_version_has_its_models_name_whatever_part_of_the_repository_is_served(
    put_model: Callable[..., Path],
    make_client: Callable[..., FlaskClient],
    tmp_path: Path,
    served: str,
) -> None:
    put_model("mnist/vgg/metaplastic/1", architecture="vgg")
    broken_card(put_model("mnist/vgg/metaplastic/2", architecture="vgg"))
    broken_card(put_model("mnist/vgg/a-run", architecture="vgg"))
    rows = make_client(weights=tmp_path / served).post("/v2/repository/index").json
    assert {(row["name"], row["version"], row["state"]) for row in rows} == {
        ("mnist-vgg-metaplastic", "1", "READY"),
        ("mnist-vgg-metaplastic", "2", "UNAVAILABLE"),
        ("a-run", "", "UNAVAILABLE"),
    }


def test_an_architecture_called_like_the_comparison_is_refused(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    put_model("run", architecture="compare")
    with pytest.raises(
        RepositoryError, match=r"card\.json: no architecture can be called 'compare'"
    ):
        load(tmp_path)


def test_the_bundled_models_are_all_served(repository: Path) -> None:
    catalogue = load(repository)
    assert all(model.network for model in catalogue)
    cards = [json.loads(path.read_text()) for path in repository.rglob("card.json")]
    assert len(list(catalogue)) == len(cards)

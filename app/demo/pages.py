"""GET /demo: pages for people. Their scripts call the public API of this service only.

Jinja escapes what a page shows of cards and of visitors' files, and the scripts in static/demo set
text and never HTML. The content security policy also forbids inline scripts and styles, and other
hosts.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request, url_for

from app.catalogue.catalogue import Catalogue, Endpoint, Model
from app.errors import RequestError
from app.predict.explain import COLOURS
from app.settings import Settings
from app.web.body import url_of
from app.web.options import CHOICE, read_model, refuse_unknown
from models.cards import Card, Scores

# The content security policy of the pages. Images may be data: and blob: URLs, which the scripts
# make of the pictures that a visitor chooses.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
MOST_IN_A_MATRIX = 20  # classes; with more, the page lists the most frequent mistakes instead
MOST_MISTAKES = 15


def blueprint(catalogue: Catalogue, settings: Settings) -> Blueprint:
    """Return the pages below /demo."""
    pages = Blueprint("demo", __name__, url_prefix="/demo")

    @pages.get("")
    @pages.get("/")
    def try_out() -> str:
        """Return the page to draw, drop or choose a picture and see each network's answer."""
        refuse_unknown(request.args, ("dataset",))
        # Without a choice, the page shows the data set of the default model.
        datasets = catalogue.datasets
        dataset = request.args.get("dataset") or catalogue.default.dataset
        if dataset not in datasets:
            message = f"There is no data set {dataset[:40]!r}; there are: {', '.join(datasets)}."
            raise RequestError(404, "unknown_dataset", message, datasets=list(datasets))
        endpoints = datasets[dataset]
        first = catalogue.default if catalogue.default in endpoints else _best(endpoints)
        return render_template(
            "demo/try.html",
            datasets=sorted(datasets, key=lambda name: name != catalogue.default.dataset),
            dataset=dataset,
            card=first.find().card,
            networks=_networks(endpoints),
            samples=list(first.samples),
            page=_page_data(endpoints, first, settings),
        )

    @pages.get("/models")
    def models() -> str:
        """Return the list of all models."""
        refuse_unknown(request.args, ())
        return render_template("demo/models.html", groups=catalogue.datasets)

    @pages.get("/models/<dataset>/<architecture>")
    @pages.get("/models/<dataset>/<architecture>/<rule>")
    def model(dataset: str, architecture: str, rule: str | None = None) -> str:
        """Return the page of one model, made from its card."""
        refuse_unknown(request.args, CHOICE)
        endpoint = catalogue.endpoints.get(f"{dataset}/{architecture}")
        if endpoint is None:
            message = f"There is no model of {dataset[:40]!r} called {architecture[:40]!r}."
            raise RequestError(404, "unknown_endpoint", message)
        query = request.args.copy()
        if rule:
            query["rule"] = rule
        return render_template(
            "demo/model.html", **_model_page(endpoint, read_model(query, endpoint))
        )

    @pages.get("/<path:_>")
    def nowhere(_: str) -> str:
        """Raise RequestError 404 for an unknown address. The error is answered as a page."""
        message = f"There is no {request.path[:100]!r}."
        raise RequestError(404, "not_found", message)

    @pages.errorhandler(RequestError)
    def refused(error: RequestError) -> tuple[str, int]:
        return render_template("demo/error.html", error=error), error.status

    @pages.after_request
    def guard(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "same-origin"  # other sites do not see the address
        return response

    pages.add_app_template_filter(percent)
    return pages


def percent(share: float) -> str:
    """Return a share as text: 0.9953 -> "99.53 %", with a space that does not break."""
    return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


def _best(endpoints: list[Endpoint]) -> Endpoint:
    """Return the endpoint whose default model has the best test accuracy, by default the first."""

    def score(endpoint: Endpoint) -> float:
        test = endpoint.find().card.test
        return test.accuracy if test else 0

    return max(endpoints, key=score)


def _networks(endpoints: list[Endpoint]) -> list[dict[str, Any]]:
    """Return the default model of each rule of each architecture."""
    return [
        {
            "card": endpoint.find(rule).card,
            "url": _model_url(endpoint.find(rule).card),
        }
        for endpoint in endpoints
        for rule in endpoint.models
    ]


def _model_url(card: Card) -> str:
    return url_for(
        "demo.model", dataset=card.dataset, architecture=card.architecture, rule=card.rule
    )


def _page_data(endpoints: list[Endpoint], first: Endpoint, settings: Settings) -> dict[str, Any]:
    """Return what the page's scripts need; it is put into the page as JSON."""
    cards = [row["card"] for row in _networks(endpoints)]
    chosen = first.find().card
    return {
        "root": request.script_root,  # the prefix of a proxy, "" without one
        "dataset": first.dataset,
        "draws": chosen.input.style == "digit",  # whether the page has a drawing pad
        "networks": [
            {
                "path": f"/api/{card.endpoint}",
                "name": card.name,
                "architecture": card.architecture,
                "rule": card.rule,
                "labels": card.labels,
                "width": card.input.width,
                "height": card.input.height,
            }
            for card in cards
        ],
        "chosen": cards.index(chosen),
        "colours": COLOURS,
        "maxBytes": settings.max_request_bytes,
        "votes": bool(settings.feedback),  # whether there are thumbs
    }


def _model_page(endpoint: Endpoint, model: Model) -> dict[str, Any]:
    """Return what the template of a model's page shows."""
    card = model.card
    scores = card.test or card.validation  # a run has no test scores before it is published
    query = {"rule": card.rule, "version": card.version}
    return {
        "endpoint": endpoint,
        "card": card,
        "model": model,
        "scores": scores,
        "split": "test" if card.test else "validation",
        "matrix": _matrix(scores) if len(card.labels) <= MOST_IN_A_MATRIX else None,
        "mistakes": _mistakes(scores, card.labels),
        "recipe": dict(_flat(card.training.recipe)),
        "rules": [(rule, _model_url(endpoint.find(rule).card)) for rule in endpoint.models],
        "curl": f"curl -F file=@picture.png '{url_of(request).removesuffix(request.path)}"
        f"{endpoint.path}?rule={card.rule}'",
        "pictures": {
            name: f"{request.script_root}{endpoint.path}/{name}?{urlencode(query)}"
            for name in ("curves.png", "confusion.png")
            if (model.folder / name).is_file()
        },
        "page": {
            "root": request.script_root,
            "path": endpoint.path,
            "query": query,
            "labels": card.labels,
            "confusion": scores.confusion,
            "best": card.training.best_epoch,
        },
    }


def _matrix(scores: Scores) -> list[list[tuple[int, int]]]:
    """Return the number of images and a shade, 0 to 9, for each true and predicted class."""
    return [
        [(count, _shade(count / max(1, sum(row)))) for count in row] for row in scores.confusion
    ]


def _shade(share: float) -> int:
    """Return a shade from 0 to 9; only a share of 0 has shade 0.

    The square root keeps the few mistakes of a good network visible.
    """
    return 0 if share == 0 else min(9, 1 + int(8.999 * share**0.5))


def _mistakes(scores: Scores, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the most frequent mistakes, the most frequent first."""
    found = [
        (count, true, predicted)
        for true, row in enumerate(scores.confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return [
        {
            "true": labels[true],
            "predicted": labels[predicted],
            "count": count,
            "of": sum(scores.confusion[true]),
        }
        for count, true, predicted in sorted(found, key=lambda mistake: -mistake[0])[:MOST_MISTAKES]
    ]


def _flat(recipe: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return the rows of `recipe`; a row of an inner table is named by its path: augment.shift."""
    rows: list[tuple[str, Any]] = []
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{name}.")
        else:
            rows.append((f"{before}{name}", value))
    return rows

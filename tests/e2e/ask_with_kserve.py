"""KServe's own client, as a program: python ask_with_kserve.py URL MODEL, one JSON line of results.

It runs in a process of its own, with the folder that tests/e2e/kserve.txt fills on its path.
"""

import asyncio
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

# The package's own __init__ loads its server and Kubernetes too; the client needs neither.
package = types.ModuleType("kserve")
package.__path__ = importlib.util.find_spec("kserve").submodule_search_locations  # type: ignore
sys.modules["kserve"] = package

import httpx  # noqa: E402
from kserve.inference_client import InferenceRESTClient, RESTConfig  # noqa: E402
from kserve.protocol.infer_type import InferInput, InferRequest, RequestedOutput  # noqa: E402

FOLDER = Path(__file__).parents[2]
sys.path.insert(0, str(FOLDER))
from tests.e2e.digits import as_bytes, as_floats  # noqa: E402


def question(values: Any, datatype: str, binary_in: bool, binary_out: bool, name: str) -> Any:
    image = InferInput(name, list(values.shape), datatype)
    image.set_data_from_numpy(values, binary_data=binary_in)
    wanted = RequestedOutput("probabilities", parameters={"binary_data": binary_out})
    return InferRequest("any", [image], request_outputs=[wanted])


async def main(url: str, model: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    found: dict[str, Any] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model ready": await client.is_model_ready(url, model),
        "unknown model ready": await client.is_model_ready(url, "nonet"),
        "digits": [],
        "errors": [],
    }
    for datatype, values in (("FP32", as_floats()), ("UINT8", as_bytes())):
        for binary_in in (True, False):
            for binary_out in (True, False):
                asked = question(values, datatype, binary_in, binary_out, "images")
                answer = await client.infer(url, asked, model_name=model)
                digits = answer.outputs[0].as_numpy().argmax(axis=1)
                found["digits"].append(np.asarray(digits).tolist())
    floats = as_floats()
    for wrong in (
        question(floats, "FP32", False, False, "x"),
        question(floats[:, :27], "FP32", True, True, "images"),
        question(floats.astype(np.int64), "INT64", False, False, "images"),
    ):
        try:
            await client.infer(url, wrong, model_name=model)
        except httpx.HTTPStatusError as error:
            found["errors"].append(str(error))
    plain = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await plain.infer(url, {"instances": floats.tolist()}, model_name=model)
    found["v1"] = np.argmax(answer["predictions"], axis=1).tolist()
    print(json.dumps(found))


asyncio.run(main(*sys.argv[1:]))

import os

import common
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


class Instance:
    """A network that is opened in the process that runs it."""

    network = None

    @batch
    def __call__(self, image):
        self.network = self.network or common.open_onnx()
        return {"logits": self.network(image)}


if __name__ == "__main__":
    shape = tuple(map(int, os.environ["SHAPE"].split(",")))
    config = TritonConfig(
        http_port=int(os.environ["PORT"]),
        grpc_port=int(os.environ["PORT2"]),
        metrics_port=int(os.environ["PORT3"]),
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=[Instance() for _ in range(common.WORKERS)],
            inputs=[Tensor(name="image", dtype=np.float32, shape=shape)],
            outputs=[Tensor(name="logits", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=16, batcher=DynamicBatcher()),
        )
        triton.serve()

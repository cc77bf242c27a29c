import os

import common
import litserve
from fastapi import Request


class Classifier(litserve.LitAPI):
    def setup(self, device):
        self.network = common.open_onnx()

    def decode_request(self, request: Request):
        return common.pixels_of(request["file"].file.read())

    def predict(self, pixels):
        return self.network(pixels)

    def encode_response(self, logits):
        return common.answer(logits)


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(), accelerator="cpu", workers_per_device=common.WORKERS)
    server.run(port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")

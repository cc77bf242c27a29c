import common
from flask import Flask, request

app = Flask(__name__)
network = common.open_keras()


@app.post("/predict")
def predict() -> dict[str, object]:
    return common.answer(network.predict(common.pixels_of(request.files["file"].read()), verbose=0))

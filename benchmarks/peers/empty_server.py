from flask import Flask

app = Flask(__name__)


@app.post("/predict")
def predict() -> str:
    return "ok"

import common
from fastapi import FastAPI, UploadFile

app = FastAPI()
network = common.open_keras()


@app.post("/predict")
def predict(file: UploadFile) -> dict[str, object]:
    return common.answer(network.predict(common.pixels_of(file.file.read()), verbose=0))

"""The server that users write by hand: FastAPI around `tf.saved_model.load(…).signatures[…]`.

`python -m benchmarks.serving_by_hand MODEL PORT`. Needs `fastapi` and `uvicorn`, which nothing else here
does.
"""

import sys

import tfrec_fusion  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

import tensorflow as tf  # isort: skip
import uvicorn  # isort: skip
from fastapi import FastAPI  # isort: skip
from pydantic import BaseModel  # isort: skip

app = FastAPI()
signature = None


class Request(BaseModel):
    instances: list[float]


@app.post("/v1/models/small:predict")
def predict(request: Request) -> dict[str, list[float]]:
    outputs = signature(x=tf.constant(request.instances, tf.float32))
    return {"predictions": outputs["y"].numpy().tolist()}


if __name__ == "__main__":
    loaded = tf.saved_model.load(sys.argv[1])
    signature = loaded.signatures["serving_default"]
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")

import common
from mosec import Server, Worker


class Classifier(Worker):
    def __init__(self):
        self.network = common.open_onnx()

    def deserialize(self, data):
        return common.pixels_of(data)

    def forward(self, data):
        return common.answer(self.network(data))


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classifier, num=common.WORKERS)
    server.run()

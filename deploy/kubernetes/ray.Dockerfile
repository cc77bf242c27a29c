# The image of deploy/kubernetes/bulk-rayjob.yaml: the service's image, and Ray.
#   docker build -t metaplastic-ray:0.1.0 -f deploy/kubernetes/ray.Dockerfile .
FROM metaplastic:0.1.0
USER root
COPY requirements-cluster.txt constraints.txt /tmp/
# KubeRay submits a job through Ray's job server, which is in `ray[default]`; nothing else needs it.
RUN /usr/local/bin/python -m pip --python /opt/venv/bin/python install --no-cache-dir \
    -r /tmp/requirements-cluster.txt "ray[default]" -c /tmp/constraints.txt \
    && rm /tmp/requirements-cluster.txt /tmp/constraints.txt
USER 10001:10001

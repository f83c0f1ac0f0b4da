# grow in a container: CPU by default, `--build-arg TORCH=cu128` for CUDA (any name of download.pytorch.org/whl/)
#   docker build -t grow .                              docker run --rm grow
#   docker build -t grow:cuda --build-arg TORCH=cu128 . docker run --rm --gpus all grow:cuda train method=tiny device=cuda
FROM python:3.12-slim

# where torch's and torchvision's wheels come from: cpu (a few hundred MB), or cu126, cu128 and so on (several GB)
ARG TORCH=cpu
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" torch torchvision

COPY pyproject.toml README.md LICENSE /src/
COPY grow_cli /src/grow_cli
COPY conf /src/conf
# torch is there already, so that this brings the rest only
RUN pip install --no-cache-dir /src && rm -r /src

# not root, with a home for caches; runs and datasets lie in folders that can be mounted
RUN useradd --create-home --uid 1000 grow && mkdir /runs /data && chown grow:grow /runs /data
USER grow
ENV HOME=/home/grow GROW_DATA_DIR=/data
WORKDIR /runs
ENTRYPOINT ["grow"]
CMD ["train", "experiment=tiny_digits", "progress=lines"]

# docker build -t htsget-flask . && docker run --rm -p 8080:8080 -v /my/data:/data:ro htsget-flask

FROM python:3.12-slim AS wheels
WORKDIR /src
# A change of the code leaves this layer as it is.
COPY requirements.lock ./
RUN pip wheel --no-cache-dir --no-deps --require-hashes --wheel-dir /wheels --requirement requirements.lock

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 htsget
COPY --from=wheels /wheels /wheels
RUN pip install --no-cache-dir --no-index /wheels/*.whl && rm -r /wheels
COPY . /src
RUN pip install --no-cache-dir --no-deps /src && rm -r /src
USER htsget
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["htsget-flask"]
CMD ["serve", "/data", "--host", "0.0.0.0"]

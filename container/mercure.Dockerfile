# The image of `Dockerfile` as a module of Mercure: docker build -t fvv . && docker build -t fvv-mercure -f container/mercure.Dockerfile .
# hadolint ignore=DL3006
FROM fvv
COPY --chmod=755 container/mercure-entrypoint.sh /docker-entrypoint.sh
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD []

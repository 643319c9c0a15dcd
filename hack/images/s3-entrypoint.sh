#!/bin/sh
# A bucket of the posix backend is a folder; S3_BUCKET names those to be there from the start, with spaces between.
set -eu
: "${ROOT_ACCESS_KEY:?set ROOT_ACCESS_KEY}" "${ROOT_SECRET_KEY:?set ROOT_SECRET_KEY}"
for bucket in ${S3_BUCKET:-}; do
  mkdir -p "/data/$bucket"
done
exec /usr/local/bin/versitygw --port :9000 --quiet posix "$@" /data

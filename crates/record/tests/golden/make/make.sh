#!/usr/bin/env bash
# Makes the golden batches of real clients again, into the folder given (default: a new one).
# Needs go, a JDK, Maven, node with npm, and Python; takes what it needs from their registries.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(realpath "${1:-$(mktemp -d)}")
work=$(mktemp -d)
mkdir -p "$work/make"
cp "$here"/* "$work/make"
cp "$here"/../*.txt "$work"
cd "$work/make"

go mod init golden
go get github.com/IBM/sarama@v1.61.1 github.com/twmb/franz-go@v1.22.2 \
    github.com/twmb/franz-go/pkg/kfake@v0.0.0-20260918054303-01f206a7e32c

python3 -m venv python
python/bin/pip install --quiet kafka-python==3.0.12 aiokafka==0.14.0 confluent-kafka==2.16.1 \
    lz4==4.4.5 python-snappy==0.7.3 cramjam==2.14.0 zstandard==0.25.0
npm install --silent --ignore-scripts kafkajs@2.2.4 kafkajs-snappy@1.1.0

cat > pom.xml <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>golden</groupId><artifactId>golden</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId>
    <version>4.4.0</version>
  </dependency></dependencies>
</project>
POM
mvn --quiet --batch-mode dependency:copy-dependencies -DoutputDirectory=jars

go run . "$out" \
    "python/bin/python peers.py" \
    "TABLES=.. node kafkajs.js" \
    "java -cp 'jars/*' Peer.java .. '$out'"
ls -l "$out"

#!/usr/bin/env bash
# Starts a single Apache Kafka node (KRaft) in the foreground, from the jars that `cargo xtask test`
# gathers: the oracle that the client suite is proved on, and the peer of the benchmarks.
#
# usage: apache-kafka.sh PORT DATA_DIR [NAME=VALUE]...     (further server settings)
set -euo pipefail

port=$1 data=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
lib=${KAFKA_LIB:-$here/../../../.cache/clients/java-tools/lib}
controller=$((port > 40000 ? port - 20000 : port + 20000))

mkdir -p "$data"
data=$(cd "$data" && pwd)
cat >"$data/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$data/log
num.partitions=4
auto.create.topics.enable=true
group.initial.rebalance.delay.ms=0
group.consumer.min.heartbeat.interval.ms=300
group.consumer.heartbeat.interval.ms=300
group.consumer.min.session.timeout.ms=6000
group.consumer.session.timeout.ms=10000
group.streams.min.session.timeout.ms=6000
group.streams.session.timeout.ms=10000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
EOF
printf '%s\n' "$@" >>"$data/server.properties"

run=(java -Xms256m -Xmx1g -XX:+UseG1GC -Dlog4j2.level=WARN -cp "$lib/*")
if [ ! -e "$data/log/meta.properties" ]; then
  "${run[@]}" kafka.tools.StorageTool format --config "$data/server.properties" \
    --cluster-id "MkU3OEVBNTcwNTJENDM2Qg" >&2
fi
exec "${run[@]}" kafka.Kafka "$data/server.properties"

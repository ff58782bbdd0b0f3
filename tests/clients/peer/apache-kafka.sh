#!/usr/bin/env bash
# Starts a single Apache Kafka node (KRaft) in the foreground, from the jars that `cargo xtask test`
# gathers: the oracle that the client suite is proved on, and the peer of the benchmarks.
#
# usage: apache-kafka.sh PORT DATA_DIR [--secured FOLDER SSL_PORT SASL_PORT] [NAME=VALUE]...
#
# NAME=VALUE are further settings. With --secured it has doors: mutual TLS at SSL_PORT, and every SASL mechanism over TLS
# at SASL_PORT. FOLDER has what they need: certs/server.pem, certs/ca.pem and certs/jwks.json, and the passwords
# of the users admin, who may do everything, and suite in admin.txt and suite.txt.
set -euo pipefail

port=$1 data=$2
shift 2
secured=
if [ "${1:-}" = --secured ]; then
  secured=$2 ssl=$3 sasl=$4
  shift 4
fi
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
users=()
if [ -n "$secured" ]; then
  modules=org.apache.kafka.common.security
  scram="$modules.scram.ScramLoginModule required;"
  login=listener.name.sasl_ssl
  admin=$(cat "$secured/admin.txt") suite=$(cat "$secured/suite.txt")
  # What comes later counts. The broker speaks to itself in plain text, as nobody in particular.
  cat >>"$data/server.properties" <<EOF
listeners=PLAINTEXT://127.0.0.1:$port,SSL://127.0.0.1:$ssl,SASL_SSL://127.0.0.1:$sasl,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SSL://127.0.0.1:$ssl,SASL_SSL://127.0.0.1:$sasl
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$secured/certs/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$secured/certs/ca.pem
ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]+)$/\$1/
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
$login.plain.sasl.jaas.config=$modules.plain.PlainLoginModule required user_admin="$admin" user_suite="$suite";
$login.scram-sha-256.sasl.jaas.config=$scram
$login.scram-sha-512.sasl.jaas.config=$scram
$login.oauthbearer.sasl.jaas.config=$modules.oauthbearer.OAuthBearerLoginModule required;
$login.oauthbearer.sasl.server.callback.handler.class=$modules.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url=file://$secured/certs/jwks.json
sasl.oauthbearer.expected.audience=millstream
sasl.oauthbearer.expected.issuer=https://millstream.invalid
sasl.oauthbearer.clock.skew.seconds=0
delegation.token.secret.key=suite-suite-suite-suite-suite-suite
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
EOF
  run+=("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://$secured/certs/jwks.json")
  for user in admin suite; do
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      users+=(--add-scram "$mechanism=[name=$user,password=${!user}]")
    done
  done
fi
if [ ! -e "$data/log/meta.properties" ]; then
  "${run[@]}" kafka.tools.StorageTool format --config "$data/server.properties" \
    --cluster-id "MkU3OEVBNTcwNTJENDM2Qg" "${users[@]}" >&2
fi
exec "${run[@]}" kafka.Kafka "$data/server.properties"

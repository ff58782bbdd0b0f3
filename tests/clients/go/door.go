package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// How to log in, where the server is not open to everybody: what xtask/src/test/secure.rs writes.
type doorFile struct {
	Authority, Certificate, Mechanism, User, Password, Token string

	BadTokens    map[string]string `json:"bad_tokens"`
	MakeToken    []string          `json:"make_token"`
	TokenSeconds int               `json:"token_seconds"`
}

// tokens is what gives clients theirs, instead of the door: scenarios that are about tokens set it. It counts.
var tokens func() string

var tokensGiven atomic.Int32

// withTokens has clients get their tokens elsewhere for as long as action runs.
func withTokens(give func() string, action func()) {
	tokens = give
	defer func() { tokens = nil }()
	action()
}

// freshToken is one that is good for TokenSeconds.
func freshToken() string {
	door, _ := door()
	made := must(exec.Command(door.MakeToken[0], door.MakeToken[1:]...).Output())
	return strings.TrimSpace(string(made))
}

// expiry is when a token says that it expires.
func expiry(token string) time.Time {
	claims := must(base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1]))
	var said struct{ Exp int64 }
	check(json.Unmarshal(claims, &said))
	return time.Unix(said.Exp, 0)
}

// bearer asks for a token at every login.
func (d doorFile) bearer() sasl.Mechanism {
	give := tokens
	if give == nil {
		give = func() string { return d.Token }
	}
	return oauth.Oauth(func(context.Context) (oauth.Auth, error) {
		tokensGiven.Add(1)
		return oauth.Auth{Token: give()}, nil
	})
}

// door is the file that DOOR names, if it does.
func door() (found doorFile, is bool) {
	path, is := os.LookupEnv("DOOR")
	if is {
		check(json.Unmarshal(must(os.ReadFile(path)), &found))
	}
	return found, is
}

// login is what a client needs to log in.
func login() []kgo.Opt {
	door, is := door()
	if !is {
		return nil
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(must(os.ReadFile(door.Authority)))
	if door.Certificate != "" {
		config.Certificates = []tls.Certificate{must(tls.LoadX509KeyPair(door.Certificate, door.Certificate))}
	}
	options := []kgo.Opt{kgo.DialTLSConfig(config)}
	if door.Mechanism != "" {
		options = append(options, kgo.SASL(door.mechanism()))
	}
	return options
}

func (d doorFile) mechanism() sasl.Mechanism {
	switch d.Mechanism {
	case "PLAIN":
		return saslplain.Auth{User: d.User, Pass: d.Password}.AsMechanism()
	case "OAUTHBEARER":
		return d.bearer()
	case "SCRAM-SHA-256":
		return scram.Auth{User: d.User, Pass: d.Password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: d.User, Pass: d.Password}.AsSha512Mechanism()
	}
	panic(fail("unknown mechanism " + d.Mechanism))
}

// roundTrip runs some of the other scenarios, one after the other, and tries what nobody has given a right to.
func roundTrip() any {
	base := topic
	done := []string{"topics", "acks-all", "commit-manual"}
	for _, name := range done {
		topic = base + "-" + name
		scenarios[name]()
	}
	topic = "other-" + base
	refused(kerr.TopicAuthorizationFailed, createTopic(1, nil))
	return done
}

// badCredentials: a client that can't log in says so.
func badCredentials() any {
	door, _ := door()
	if door.BadTokens == nil {
		return turnedAway()
	}
	said := map[string]string{}
	for what, token := range door.BadTokens {
		withTokens(func() string { return token }, func() { said[what] = turnedAway() })
	}
	return said
}

// turnedAway is what a client says that is not let in.
func turnedAway() string {
	cl := client(kgo.RetryTimeout(limit), kgo.RequestRetries(0))
	defer cl.Close()
	err := cl.Ping(patience())
	door, _ := door()
	var alert *net.OpError
	refused := errors.Is(err, kerr.SaslAuthenticationFailed)
	switch door.Mechanism {
	case "":
		// So the alerts of TLS are told that come from the other side.
		refused = errors.As(err, &alert) && alert.Op == "remote error"
	case "OAUTHBEARER":
		// It does not go on to the end of such an exchange (RFC 7628 section 3.2.3).
		refused = err != nil && strings.Contains(err.Error(), "oauth response")
	}
	assert(refused, "%v", err)
	return fmt.Sprint(err)
}

// tokenRenewal: two clients renew their tokens for three lifetimes, while one writes and one reads.
func tokenRenewal() any {
	door, _ := door()
	check(createTopic(partitions, nil))
	produce(topic, everywhere(1), kgo.RequiredAcks(kgo.AllISRAcks()))
	count, asked := 1, int32(0)
	seen := newTally()
	withTokens(freshToken, func() {
		m := join(topic, topic, seen, true)
		wait("the member has all partitions", shared(m))
		cl := client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic))
		sendToAll := func() {
			var records []*kgo.Record
			for p := range int32(partitions) {
				records = append(records, plain(count+1, p)[count])
			}
			check(cl.ProduceSync(patience(), records...).FirstErr())
			count++
		}
		sendToAll()
		before := tokensGiven.Load()
		for end := time.Now().Add(3 * time.Duration(door.TokenSeconds) * time.Second); time.Now().Before(end); {
			sendToAll()
			time.Sleep(50 * time.Millisecond)
		}
		asked = tokensGiven.Load() - before
		cl.Close()
		wait("all records seen", func() bool { return seen.records() >= count*partitions })
		m.leave()
	})
	for p := range int32(partitions) {
		equal(read(topic, p, start, count, nil), plain(count, p))
		assert(ends(topic)[p] == int64(count), "partition %d has records twice", p)
	}
	assert(seen.records() == count*partitions, "%d records seen", seen.records())
	// Two clients, for three lifetimes: each asks at least twice more.
	assert(asked >= 4, "%d tokens asked for", asked)
	twice := seen.sum() - count*partitions
	return map[string]any{"records": count * partitions, "tokens": asked, "seen twice": twice, "logs in again": true}
}

// tokenExpiry: a producer whose token is not renewed writes until it has expired, and nothing afterwards.
func tokenExpiry() any {
	check(createTopic(1, nil))
	token := freshToken()
	end, taken := expiry(token), 0
	var said error
	withTokens(func() string { return token }, func() {
		cl := client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic),
			kgo.DisableIdempotentWrite(), kgo.RecordDeliveryTimeout(5*time.Second), kgo.MaxProduceRequestsInflightPerBroker(1))
		defer cl.Close()
		for said == nil {
			began := time.Now()
			if said = cl.ProduceSync(patience(), plain(taken+1, 0)[taken]).FirstErr(); said == nil {
				// A login ends to the millisecond; the broker's clock is this one.
				assert(began.Before(end.Add(time.Second)), "a record was taken after the token had expired")
				taken++
				time.Sleep(50 * time.Millisecond)
			}
		}
		wait("the token has expired", func() bool { return time.Now().After(end) })
		turnedAway()
	})
	assert(taken > 0, "no record was taken before: %v", said)
	equal(read(topic, 0, start, taken, nil), plain(taken, 0))
	assert(ends(topic)[0] == int64(taken), "a record was written that was not acknowledged")
	return map[string]any{"records": taken, "said": said.Error()}
}

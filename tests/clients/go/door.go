package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

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
		return oauth.Auth{Token: d.Token}.AsMechanism()
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

// golumber is the Beats protocol's reference implementation (github.com/elastic/go-lumber) as a command: a server that
// writes what it gets as NDJSON and can be slow or drop connections, and a client that sends numbered events.
//
//	golumber serve -listen 127.0.0.1:0 -out events.ndjson [-delay-ack 2s] [-drop-every 5] [-lose-ack-every 7] [-tls-cert …]
//	golumber send -connect 127.0.0.1:5044 -count 1000 [-batch 100] [-level 3] [-inflight 2]
//
// The server prints "listening on ADDRESS" once it does, and ends on SIGTERM or SIGINT with a line of counts. The client
// prints how many events were acknowledged, and fails if not all were.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	client "github.com/elastic/go-lumber/client/v2"
	"github.com/elastic/go-lumber/lj"
	server "github.com/elastic/go-lumber/server/v2"
)

func main() {
	run := map[string]func([]string) error{"serve": serve, "send": send}
	if len(os.Args) < 2 || run[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: golumber serve|send [flags]")
		os.Exit(2)
	}
	if err := run[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "golumber:", err)
		os.Exit(1)
	}
}

// listener remembers its connections, so that they can be reset.
type listener struct {
	net.Listener
	mu   sync.Mutex
	open map[*conn]struct{}
}

type conn struct {
	net.Conn
	l *listener
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	tracked := &conn{c, l}
	l.open[tracked] = struct{}{}
	return tracked, nil
}

func (c *conn) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// reset ends all connections with a TCP reset, as Logstash's Java server does.
func (l *listener) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Conn.Close()
	}
	l.open = map[*conn]struct{}{}
}

func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	address := flags.String("listen", "127.0.0.1:0", "address; port 0 takes a free one")
	out := flags.String("out", "", "NDJSON file to append events to; without it they are only counted")
	delay := flags.Duration("delay-ack", 0, "how long each window waits for its acknowledgement")
	keepalive := flags.Duration("keepalive", 3*time.Second, "interval of keep-alives while a window waits")
	dropEvery := flags.Int("drop-every", 0, "reset all connections instead of taking every n-th window")
	loseEvery := flags.Int("lose-ack-every", 0, "take every n-th window, but reset all connections before its acknowledgement")
	cert := flags.String("tls-cert", "", "PEM file: TLS with this certificate chain")
	key := flags.String("tls-key", "", "PEM file: its key")
	clientCA := flags.String("client-ca", "", "PEM file: clients must show a certificate signed by one of these")
	_ = flags.Parse(args)

	inner, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	tracked := &listener{Listener: inner, open: map[*conn]struct{}{}}
	var listening net.Listener = tracked
	if *cert != "" {
		config, err := tlsConfig(*cert, *key, *clientCA)
		if err != nil {
			return err
		}
		listening = tls.NewListener(tracked, config)
	}
	var file *bufio.Writer
	if *out != "" {
		f, err := os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		file = bufio.NewWriter(f)
	}
	running, err := server.NewWithListener(listening, server.Keepalive(*keepalive), server.JSONDecoder(raw))
	if err != nil {
		return err
	}
	fmt.Println("listening on", inner.Addr())

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	windows, events, dropped := 0, 0, 0
	for {
		select {
		case <-signals:
			fmt.Printf("%d events in %d windows, %d dropped\n", events, windows, dropped)
			return nil
		case batch := <-running.ReceiveChan():
			windows++
			if *dropEvery > 0 && windows%*dropEvery == 0 {
				dropped++
				tracked.reset()
				batch.ACK()
				continue
			}
			if err := write(file, batch); err != nil {
				return err
			}
			events += len(batch.Events)
			if *loseEvery > 0 && windows%*loseEvery == 0 {
				tracked.reset()
			}
			if *delay > 0 {
				go func() { time.Sleep(*delay); batch.ACK() }()
				continue
			}
			batch.ACK()
		}
	}
}

// raw keeps an event's bytes as they came.
func raw(data []byte, to interface{}) error {
	if !json.Valid(data) {
		return errors.New("an event is not JSON")
	}
	*(to.(*interface{})) = json.RawMessage(append([]byte(nil), data...))
	return nil
}

func write(file *bufio.Writer, batch *lj.Batch) error {
	if file == nil {
		return nil
	}
	for _, event := range batch.Events {
		_, _ = file.Write(event.(json.RawMessage))
		_ = file.WriteByte('\n')
	}
	return file.Flush()
}

func tlsConfig(cert, key, clientCA string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clientCA != "" {
		config.ClientCAs, err = pool(clientCA)
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, err
}

func pool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return authorities, nil
}

func send(args []string) error {
	flags := flag.NewFlagSet("send", flag.ExitOnError)
	address := flags.String("connect", "127.0.0.1:5044", "address of the server")
	count := flags.Int("count", 1000, "events to send")
	size := flags.Int("batch", 100, "events in a window")
	level := flags.Int("level", 3, "compression, 0 to 9")
	inflight := flags.Int("inflight", 1, "windows that may wait for their acknowledgement")
	timeout := flags.Duration("timeout", 30*time.Second, "how long the server may be silent")
	ca := flags.String("ca", "", "PEM file: TLS, with the server's authority")
	cert := flags.String("tls-cert", "", "PEM file: the client's certificate")
	key := flags.String("tls-key", "", "PEM file: its key")
	_ = flags.Parse(args)

	dial := net.Dial
	if *ca != "" {
		authorities, err := pool(*ca)
		if err != nil {
			return err
		}
		config := &tls.Config{RootCAs: authorities}
		if *cert != "" {
			pair, err := tls.LoadX509KeyPair(*cert, *key)
			if err != nil {
				return err
			}
			config.Certificates = []tls.Certificate{pair}
		}
		dial = func(network, address string) (net.Conn, error) { return tls.Dial(network, address, config) }
	}
	c, err := client.AsyncDialWith(dial, *address, *inflight, client.CompressionLevel(*level), client.Timeout(*timeout))
	if err != nil {
		return err
	}
	acked, failed := 0, error(nil)
	var mu sync.Mutex
	var waiting sync.WaitGroup
	for from := 0; from < *count; from += *size {
		var events []interface{}
		for n := from; n < min(from+*size, *count); n++ {
			events = append(events, map[string]interface{}{"n": n, "message": fmt.Sprintf("line %d", n)})
		}
		waiting.Add(1)
		err := c.Send(func(seq uint32, err error) {
			mu.Lock()
			defer mu.Unlock()
			acked += int(seq)
			if err != nil {
				failed = err
			}
			waiting.Done()
		}, events)
		if err != nil {
			return err
		}
	}
	waiting.Wait()
	fmt.Println(acked, "events acknowledged")
	if failed == nil && acked != *count {
		failed = fmt.Errorf("%d of %d", acked, *count)
	}
	return failed
}

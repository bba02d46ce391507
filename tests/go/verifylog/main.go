// Verifylog checks a log with the implementation of golang.org/x/mod/sumdb, which
// shares nothing with the one under test but the specifications.
//
//	verifylog -key VKEY [-witness VKEY] [-proofs FILE] PREFIX
//
// It reads the log below PREFIX over plain HTTP, as any client of C2SP tlog-tiles
// does, and then checks every size and every entry. FILE holds proofs that the server
// made: {"consistency": [..], "inclusion": [..]}.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/ioutil"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8

// tiles reads the hash tiles below a prefix.
type tiles struct {
	prefix string
	read   map[string][]byte
}

func (t *tiles) Height() int { return tileHeight }

func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		data, err := t.tile(tile)
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (t *tiles) tile(tile tlog.Tile) ([]byte, error) {
	// The Go checksum database has the height of its tiles in the path, C2SP has not.
	path := "tile/" + strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	data, err := t.file(path, "application/octet-stream")
	if errors.Is(err, os.ErrNotExist) && tile.W < 1<<tileHeight {
		full := tile
		full.W = 1 << tileHeight
		data, err = t.tile(full)
		if err == nil {
			data = data[:tile.W*tlog.HashSize]
		}
	}
	return data, err
}

func (t *tiles) file(path, mediaType string) ([]byte, error) {
	if data, ok := t.read[path]; ok {
		return data, nil
	}
	response, err := http.Get(t.prefix + "/" + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", path, os.ErrNotExist)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	if got := response.Header.Get("Content-Type"); got != mediaType {
		return nil, fmt.Errorf("%s is %q, not %q", path, got, mediaType)
	}
	caching := response.Header.Get("Cache-Control")
	if forever := strings.Contains(caching, "immutable"); forever != (path != "checkpoint") {
		return nil, fmt.Errorf("%s may be cached as %q", path, caching)
	}
	data, err := ioutil.ReadAll(response.Body)
	if err == nil {
		t.read[path] = data
	}
	return data, err
}

// entries reads every entry from the bundles.
func (t *tiles) entries(size int64) ([][]byte, error) {
	var all [][]byte
	for n := int64(0); n<<tileHeight < size; n++ {
		bundle := tlog.Tile{H: tileHeight, L: -1, N: n, W: 1 << tileHeight}
		if left := size - n<<tileHeight; left < 1<<tileHeight {
			bundle.W = int(left)
		}
		path := "tile/entries/" + strings.TrimPrefix(bundle.Path(), fmt.Sprintf("tile/%d/data/", tileHeight))
		data, err := t.file(path, "application/octet-stream")
		if err != nil {
			return nil, err
		}
		for len(data) > 0 {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return nil, fmt.Errorf("%s is cut off", path)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			all = append(all, data[2:end])
			data = data[end:]
		}
	}
	if int64(len(all)) != size {
		return nil, fmt.Errorf("%d entries in a tree of %d", len(all), size)
	}
	return all, nil
}

// head reads a checkpoint that the key has signed.
func head(signed []byte, key note.Verifier) (tlog.Tree, error) {
	opened, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != key.Name() {
		return tlog.Tree{}, fmt.Errorf("not a checkpoint of %s: %q", key.Name(), opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// cosigned checks the line of a witness (C2SP tlog-cosignature, with Ed25519).
func cosigned(signed []byte, key string) error {
	parts := strings.SplitN(key, "+", 3)
	typed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	if typed[0] != 4 {
		return errors.New("not the key of a cosigner")
	}
	text, lines, _ := strings.Cut(string(signed), "\n\n")
	id := sha256.Sum256(append([]byte(parts[0]+"\n"), typed...))
	for _, line := range strings.Split(lines, "\n") {
		encoded := strings.TrimPrefix(line, "— "+parts[0]+" ")
		if encoded == line {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(raw) < 4 {
			return fmt.Errorf("the line %q is malformed", line)
		}
		if !bytes.Equal(raw[:4], id[:4]) {
			// By another key of the same witness.
			continue
		}
		if len(raw) != 4+8+ed25519.SignatureSize {
			return fmt.Errorf("the line %q is malformed", line)
		}
		time := binary.BigEndian.Uint64(raw[4:12])
		message := fmt.Sprintf("cosignature/v1\ntime %d\n%s\n", time, text)
		if !ed25519.Verify(ed25519.PublicKey(typed[1:]), []byte(message), raw[12:]) {
			return errors.New("the cosignature does not verify")
		}
		return nil
	}
	return errors.New("the witness has not cosigned")
}

type consistency struct {
	From     int64    `json:"from"`
	FromRoot string   `json:"from_root"`
	To       int64    `json:"to"`
	ToRoot   string   `json:"to_root"`
	Hashes   []string `json:"hashes"`
}

func hashes(texts []string) ([]tlog.Hash, error) {
	all := []tlog.Hash{}
	for _, text := range texts {
		hash, err := tlog.ParseHash(text)
		if err != nil {
			return nil, err
		}
		all = append(all, hash)
	}
	return all, nil
}

// checkConsistency checks a proof that the server made, and that it can fail.
func checkConsistency(proof consistency, reader tlog.HashReader) error {
	list, err := hashes(proof.Hashes)
	if err != nil {
		return err
	}
	from, err := tlog.ParseHash(proof.FromRoot)
	if err != nil {
		return err
	}
	to, err := tlog.ParseHash(proof.ToRoot)
	if err != nil {
		return err
	}
	for size, root := range map[int64]tlog.Hash{proof.From: from, proof.To: to} {
		if own, err := tlog.TreeHash(size, reader); err != nil || own != root {
			return fmt.Errorf("the root of %d is %v, not %v: %v", size, own, root, err)
		}
	}
	if err := tlog.CheckTree(list, proof.To, to, proof.From, from); err != nil {
		return err
	}
	from[0] ^= 1
	if tlog.CheckTree(list, proof.To, to, proof.From, from) == nil {
		return errors.New("another root is as good")
	}
	return nil
}

// checkInclusion checks a tlog-proof that the server made, and that it can fail.
func checkInclusion(text string, key note.Verifier, entries [][]byte) error {
	proof, checkpoint, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(proof, "\n")
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return fmt.Errorf("not a tlog-proof: %q", proof)
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	list, err := hashes(lines[2:])
	if err != nil {
		return err
	}
	tree, err := head([]byte(checkpoint), key)
	if err != nil {
		return err
	}
	leaf := tlog.RecordHash(entries[index])
	if err := tlog.CheckRecord(list, tree.N, tree.Hash, index, leaf); err != nil {
		return err
	}
	leaf[0] ^= 1
	if tlog.CheckRecord(list, tree.N, tree.Hash, index, leaf) == nil {
		return errors.New("another leaf is as good")
	}
	return nil
}

func run() error {
	keyText := flag.String("key", "", "the log's verifier `key`")
	witness := flag.String("witness", "", "the verifier `key` of a witness")
	proofs := flag.String("proofs", "", "a `file` of proofs")
	flag.Parse()
	key, err := note.NewVerifier(*keyText)
	if err != nil {
		return err
	}
	files := &tiles{prefix: flag.Arg(0), read: map[string][]byte{}}
	signed, err := files.file("checkpoint", "text/plain; charset=utf-8")
	if err != nil {
		return err
	}
	tree, err := head(signed, key)
	if err != nil {
		return err
	}
	if *witness != "" {
		if err := cosigned(signed, *witness); err != nil {
			return err
		}
	}
	// It checks every tile against the signed root.
	reader := tlog.TileHashReader(tree, files)
	for size := int64(1); size <= tree.N; size++ {
		root, err := tlog.TreeHash(size, reader)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, size, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, size, root); err != nil {
			return fmt.Errorf("size %d: %v", size, err)
		}
	}
	entries, err := files.entries(tree.N)
	if err != nil {
		return err
	}
	for index, entry := range entries {
		proof, err := tlog.ProveRecord(tree.N, int64(index), reader)
		if err != nil {
			return err
		}
		leaf := tlog.RecordHash(entry)
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, int64(index), leaf); err != nil {
			return fmt.Errorf("entry %d: %v", index, err)
		}
	}
	var given struct {
		Consistency []consistency `json:"consistency"`
		Inclusion   []string      `json:"inclusion"`
	}
	if *proofs != "" {
		data, err := ioutil.ReadFile(*proofs)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &given); err != nil {
			return err
		}
	}
	for _, proof := range given.Consistency {
		if err := checkConsistency(proof, reader); err != nil {
			return fmt.Errorf("from %d to %d: %v", proof.From, proof.To, err)
		}
	}
	for number, proof := range given.Inclusion {
		if err := checkInclusion(proof, key, entries); err != nil {
			return fmt.Errorf("inclusion %d: %v", number, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{
		"size":        tree.N,
		"consistency": int64(len(given.Consistency)),
		"inclusion":   int64(len(given.Inclusion)),
	})
}

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pget"
)

func TestMain(m *testing.M) {
	if os.Getenv("PGET_TEST_UNTAR") != "" {
		main()
		// Read the process's own peak. The peak that its parent sees includes the memory that the parent
		// had when it started the program.
		status, _ := os.ReadFile("/proc/self/status")
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		fmt.Println(strings.Fields(peak)[0])
		return
	}
	os.Exit(m.Run())
}

// serve starts a web server of a folder, with ranges, and returns its address.
func serve(t *testing.T, folder string) string {
	server := httptest.NewServer(http.FileServer(http.Dir(folder)))
	t.Cleanup(server.Close)
	return server.URL
}

// tree creates a folder with files of several kinds.
func tree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	try := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	try(os.MkdirAll(filepath.Join(root, "a", "deep", "folder"), 0o755))
	try(os.MkdirAll(filepath.Join(root, "read-only"), 0o755))
	for name, size := range map[string]int{
		"empty": 0, "a/one": 1, "a/deep/folder/big": 20 << 20, "a/deep/text": 100_000, "read-only/file": 5000,
		"a/" + strings.Repeat("long name ", 20): 10, "ünicode": 3,
	} {
		content := make([]byte, size)
		rand.Read(content[:size/2])
		try(os.WriteFile(filepath.Join(root, name), content, 0o640))
		try(os.Chtimes(filepath.Join(root, name), time.Time{}, time.Unix(1_600_000_000, 0)))
	}
	for i := range 300 {
		try(os.WriteFile(filepath.Join(root, "a", fmt.Sprint("small-", i)), fmt.Append(nil, i), 0o600))
	}
	try(os.Symlink("deep/text", filepath.Join(root, "a", "link")))
	try(os.Symlink("/etc/passwd", filepath.Join(root, "link-out")))
	try(os.Link(filepath.Join(root, "a", "one"), filepath.Join(root, "hard")))
	try(os.Chmod(filepath.Join(root, "a", "one"), 0o755))
	try(os.Chmod(filepath.Join(root, "read-only"), 0o555))
	return root
}

// listing returns a text with everything that matters in a tree.
func listing(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[name] = "to " + target
			return err
		case d.IsDir():
			all[name] = fmt.Sprint(info.Mode(), info.ModTime().Unix())
		default:
			content, err := os.ReadFile(path)
			all[name] = fmt.Sprint(info.Mode(), info.ModTime().Unix(), string(content))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTheTreeComesOutAsItWentIn(t *testing.T) {
	source, folder := tree(t), t.TempDir()
	wanted := listing(t, source)
	for _, how := range []struct{ name, flag string }{{"a.tar", ""}, {"a.tar.gz", "--gzip"}, {"a.tar.zst", "--zstd"}} {
		arguments := []string{"-cf", filepath.Join(folder, how.name), "-C", source, "."}
		if how.flag != "" {
			arguments = append([]string{how.flag}, arguments...)
		}
		if output, err := exec.CommandContext(t.Context(), "tar", arguments...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v", output, err)
		}
		out := filepath.Join(t.TempDir(), "out")
		// Extract twice: the second run replaces the files of the first.
		for range 2 {
			if err := run(t.Context(), serve(t, folder)+"/"+how.name, out, 4); err != nil {
				t.Fatal(how.name, err)
			}
			got := listing(t, out)
			for name, of := range wanted {
				if got[name] != of {
					t.Errorf("%s: %s is %.80q, not %.80q", how.name, name, got[name], of)
				}
			}
			if len(got) != len(wanted) {
				t.Errorf("%s: %d names, not %d", how.name, len(got), len(wanted))
			}
			os.Chmod(filepath.Join(out, "read-only"), 0o755)
		}
		one, _ := os.Stat(filepath.Join(out, "a", "one"))
		hard, _ := os.Stat(filepath.Join(out, "hard"))
		if !os.SameFile(one, hard) {
			t.Errorf("%s: the hard link is missing", how.name)
		}
	}
	os.Chmod(filepath.Join(source, "read-only"), 0o755)
}

// archive returns an archive of the headers and contents.
func archive(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var all bytes.Buffer
	w := tar.NewWriter(&all)
	for _, h := range entries {
		h.Mode = 0o644
		content := make([]byte, h.Size)
		if err := errors.Join(w.WriteHeader(&h), second(w.Write(content))); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return all.Bytes()
}

func second(_ int, err error) error { return err }

func TestNothingIsWrittenOutside(t *testing.T) {
	for name, entries := range map[string][]tar.Header{
		"parent":             {{Name: "../evil", Size: 1}},
		"parent in between":  {{Name: "a/../../evil", Size: 1}},
		"absolute":           {{Name: "/OUTSIDE/evil", Size: 1}},
		"through a link":     {{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "link/evil", Size: 1}},
		"through a link up":  {{Name: "link", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "link/evil", Size: 1}},
		"a link's chain":     {{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b"}, {Name: "b", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "a/evil", Size: 1}},
		"a hard link out":    {{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../victim"}, {Name: "hard", Size: 3}},
		"a folder elsewhere": {{Name: "../evil", Typeflag: tar.TypeDir}},
		"a device":           {{Name: "evil", Typeflag: tar.TypeBlock}},
	} {
		outside := t.TempDir()
		victim := filepath.Join(outside, "victim")
		if err := os.WriteFile(victim, []byte("as it was"), 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			entries[i].Name = strings.ReplaceAll(entries[i].Name, "/OUTSIDE", outside)
			entries[i].Linkname = strings.ReplaceAll(entries[i].Linkname, "OUTSIDE", outside)
		}
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "object"), archive(t, entries...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), serve(t, folder)+"/object", filepath.Join(outside, "out"), 4); err == nil {
			t.Errorf("%s: no error", name)
		}
		content, err := os.ReadFile(victim)
		left, _ := os.ReadDir(outside)
		if err != nil || string(content) != "as it was" || len(left) != 2 {
			t.Errorf("%s: %q, %v, %v", name, content, left, err)
		}
	}
}

// A file that replaces a link is not written through the link.
func TestAFileReplacesALink(t *testing.T) {
	folder := t.TempDir()
	object := archive(t, tar.Header{Name: "to", Size: 2}, tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "to"}, tar.Header{Name: "link", Size: 5})
	if err := os.WriteFile(filepath.Join(folder, "object"), object, 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if err := run(t.Context(), serve(t, folder)+"/object", out, 4); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(filepath.Join(out, "to")); err != nil || info.Size() != 2 {
		t.Error(info, err)
	}
}

func TestDamagedArchivesAndMissingOnes(t *testing.T) {
	folder := t.TempDir()
	var whole bytes.Buffer
	w := gzip.NewWriter(&whole)
	w.Write(archive(t, tar.Header{Name: "file", Size: 100_000}))
	w.Close()
	flipped := bytes.Clone(whole.Bytes())
	flipped[len(flipped)-6] ^= 1 // in the checksum
	for name, object := range map[string][]byte{"cut": whole.Bytes()[:whole.Len()-20], "flipped": flipped, "no-archive": bytes.Repeat([]byte("x"), 10_000)} {
		if err := os.WriteFile(filepath.Join(folder, name), object, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), serve(t, folder)+"/"+name, t.TempDir(), 4); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := run(t.Context(), serve(t, folder)+"/missing", t.TempDir(), 4); !errors.Is(err, pget.ErrNotFound) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, serve(t, folder)+"/cut", t.TempDir(), 4); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// gate is an object whose second half is delivered only after the gate is open.
type gate struct {
	*bytes.Reader
	half int64
	open <-chan struct{}
}

func (g gate) Read(p []byte) (int, error) {
	if at, _ := g.Seek(0, io.SeekCurrent); at >= g.half {
		<-g.open
	} else if at+int64(len(p)) > g.half {
		p = p[:g.half-at]
	}
	return g.Reader.Read(p)
}

// Extraction proceeds during the download: the server sends the second half only after the first
// file exists.
func TestDownloadAndExtractionOverlap(t *testing.T) {
	object := archive(t, tar.Header{Name: "first", Size: 1 << 20}, tar.Header{Name: "second", Size: 40 << 20})
	out, opened := t.TempDir(), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Unix(1_600_000_000, 0), gate{bytes.NewReader(object), int64(len(object)) / 2, opened})
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if info, err := os.Stat(filepath.Join(out, "first")); err == nil && info.Size() == 1<<20 {
				close(opened)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := run(ctx, server.URL, out, 4); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	const size = 200 << 20
	folder := t.TempDir()
	object, err := os.Create(filepath.Join(folder, "object"))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(object)
	err = w.WriteHeader(&tar.Header{Name: "big", Size: size, Mode: 0o600})
	for range size >> 20 {
		err = errors.Join(err, second(w.Write(make([]byte, 1<<20))))
	}
	if err := errors.Join(err, w.Close(), object.Close()); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	program := exec.CommandContext(t.Context(), os.Args[0], "-concurrency", "2", serve(t, folder)+"/object", out)
	program.Env = append(os.Environ(), "PGET_TEST_UNTAR=1")
	var kib int
	if output, err := program.CombinedOutput(); err != nil || second(fmt.Sscan(string(output), &kib)) != nil {
		t.Fatalf("%s: %v", output, err)
	}
	if info, err := os.Stat(filepath.Join(out, "big")); err != nil || info.Size() != size {
		t.Error(info, err)
	}
	// The window is 6 chunks of 8 MiB. The rest is two runtimes, and the race detector.
	t.Logf("%d MiB", kib>>10)
	if kib>>10 > 120 {
		t.Errorf("%d MiB", kib>>10)
	}
}

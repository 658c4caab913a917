package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
)

// mostWindow is what an archive may make the zstd decoder hold; zstd itself goes so far unasked.
const mostWindow = 128 << 20

// uncompressed recognises the compression by its first bytes, and undoes it.
func uncompressed(r *bufio.Reader) (io.ReadCloser, error) {
	magic, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(mostWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// extract unpacks an archive as it comes. Files appear under their names as they are written, so
// after an error the folder is to be dropped.
func extract(r io.Reader, root *os.Root) error {
	plain, err := uncompressed(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return err
	}
	defer plain.Close()
	var folders []*tar.Header
	archive := tar.NewReader(plain)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("the archive: %w", err)
		}
		if err := entry(archive, header, root); err != nil {
			return fmt.Errorf("%q: %w", header.Name, err)
		}
		if header.Typeflag == tar.TypeDir {
			folders = append(folders, header)
		}
	}
	// Only now, innermost first: a folder may be read-only, and what is put into it changes its time.
	for _, header := range slices.Backward(folders) {
		if err := dress(root, path.Clean(header.Name), header); err != nil {
			return fmt.Errorf("%q: %w", header.Name, err)
		}
	}
	// Padding may follow, and after it the compression's checksum and the end of the object are
	// found.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return fmt.Errorf("the archive's end: %w", err)
	}
	return nil
}

// entry makes one file, folder or link.
func entry(content io.Reader, header *tar.Header, root *os.Root) error {
	name := path.Clean(header.Name)
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o700)
	case tar.TypeReg:
		return file(content, header, root, name)
	case tar.TypeSymlink:
		// It may point anywhere: the root does not follow it out of the folder.
		if err := away(root, name); err != nil {
			return err
		}
		return root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		if err := away(root, name); err != nil {
			return err
		}
		return root.Link(path.Clean(header.Linkname), name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("entries of type %q are not unpacked", header.Typeflag)
}

func file(content io.Reader, header *tar.Header, root *os.Root, name string) error {
	// A new file, so that nothing is written through a link that an earlier entry made.
	if err := away(root, name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return dress(root, name, header)
}

// away removes what an earlier entry, or an earlier run, left under the name.
func away(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// dress sets mode and time; owners, and the bits that lend their rights, stay those of who
// unpacks.
func dress(root *os.Root, name string, header *tar.Header) error {
	if err := root.Chmod(name, header.FileInfo().Mode().Perm()); err != nil {
		return err
	}
	return root.Chtimes(name, time.Time{}, header.ModTime)
}

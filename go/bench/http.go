package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// overHTTP copies the object as a Go program does without this package: goroutines fetch ranges,
// and a reorder buffer holds as many chunks as this package's window. io.ReadAll reads each range.
// If tuned is true, each range is read into a reused buffer instead.
func overHTTP(url string, w io.Writer, tuned bool) error {
	head, err := http.Head(url)
	if err != nil {
		return err
	}
	head.Body.Close()
	size := head.ContentLength
	count := int((size + chunk - 1) / chunk)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}}

	type result struct {
		index int
		bytes []byte
		err   error
	}
	const window = 3 * connections
	buffers := make(chan []byte, window)
	for range window {
		buffers <- nil
	}
	// Each index gets its buffer with the task, so that the chunk that is due always has one.
	type task struct {
		index  int
		buffer []byte
	}
	tasks, results := make(chan task), make(chan result, window)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		defer close(tasks)
		for index := range count {
			select {
			case buffer := <-buffers:
				if buffer == nil && tuned {
					buffer = make([]byte, chunk)
				}
				tasks <- task{index, buffer}
			case <-stop:
				return
			}
		}
	}()
	for range connections {
		go func() {
			for t := range tasks {
				start := int64(t.index) * chunk
				bytes, err := fetch(client, url, t.buffer, start, min(chunk, size-start))
				results <- result{t.index, bytes, err}
			}
		}()
	}
	waiting := map[int][]byte{}
	for next := 0; next < count; {
		r := <-results
		if r.err != nil {
			return r.err
		}
		waiting[r.index] = r.bytes
		for ; waiting[next] != nil; next++ {
			if _, err := w.Write(waiting[next]); err != nil {
				return err
			}
			if tuned {
				buffers <- waiting[next][:cap(waiting[next])]
			} else {
				buffers <- nil
			}
			delete(waiting, next)
		}
	}
	return nil
}

// fetch reads a range. It reads into the buffer if there is one.
func fetch(client *http.Client, url string, buffer []byte, start, length int64) ([]byte, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, start+length-1))
	reply, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusPartialContent {
		return nil, fmt.Errorf("%s", reply.Status)
	}
	if buffer == nil {
		return io.ReadAll(reply.Body)
	}
	_, err = io.ReadFull(reply.Body, buffer[:length])
	return buffer[:length], err
}

// ready waits until the server answers.
func ready(url string) error {
	var last error
	for range 200 {
		reply, err := http.Head(url)
		if err == nil && reply.StatusCode == http.StatusOK {
			return reply.Body.Close()
		} else if err == nil {
			reply.Body.Close()
			return fmt.Errorf("the server answers %s", reply.Status)
		}
		last = err
		time.Sleep(20 * time.Millisecond)
	}
	return last
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

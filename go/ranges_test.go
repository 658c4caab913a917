package pget

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
)

func TestManyRanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, transport := range transports(t) {
		for _, gap := range []int64{0, 4096, 1 << 20} {
			ranges := []Range{{good - 1, make([]byte, 1)}, {100, make([]byte, 1000)}, {100, make([]byte, 1000)}, {7, nil}}
			for range 50 {
				offset := random.Int64N(good)
				ranges = append(ranges, Range{offset, make([]byte, random.Int64N(min(200_000, good-offset)))})
			}
			told := make([]int, len(ranges))
			right := func(index int) {
				told[index]++
				if r := ranges[index]; !bytes.Equal(r.Bytes, pattern(int(r.Offset), len(r.Bytes))) {
					t.Errorf("%s, gap %d: range %d has wrong bytes", transport.name, gap, index)
				}
			}
			options := append([]Option{WithChunkSize(chunk), WithGap(gap)}, transport.options...)
			if err := GetRanges(deadline(t), transport.url(good), ranges, right, options...); err != nil {
				t.Errorf("%s, gap %d: %v", transport.name, gap, err)
			}
			for index, times := range told {
				if times != 1 {
					t.Errorf("%s, gap %d: range %d was reported %d times", transport.name, gap, index, times)
				}
			}
		}
	}
}

func TestRangesThatCannotBe(t *testing.T) {
	url := servers.hostile + "/good"
	buffer := make([]byte, 100)
	for name, c := range map[string]struct {
		ranges []Range
		wanted error
	}{
		"beyond the object": {[]Range{{0, buffer[:10]}, {good - 9, buffer[10:20]}}, ErrRange},
		"negative":          {[]Range{{-1, buffer[:10]}}, ErrInvalidArgument},
		"one slice twice":   {[]Range{{0, buffer[:10]}, {50, buffer[9:20]}}, ErrInvalidArgument},
	} {
		if err := GetRanges(deadline(t), url, c.ranges, nil); !errors.Is(err, c.wanted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := GetRanges(deadline(t), url, nil, nil); err != nil {
		t.Errorf("none: %v", err)
	}
	if err := GetRanges(deadline(t), url, nil, nil, WithGap(-1)); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("a negative gap: %v", err)
	}
}

func TestRangesAreCancelledAndPanicThrough(t *testing.T) {
	ctx, cancel := context.WithCancel(deadline(t))
	cancel()
	if err := GetRanges(ctx, servers.hostile+"/good", []Range{{0, make([]byte, 10)}}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	ctx, cancel = context.WithCancel(deadline(t))
	defer cancel()
	ranges := []Range{{0, make([]byte, 10)}}
	if err := GetRanges(ctx, servers.hostile+"/silent", ranges, nil, WithProgress(func(_, _ int64) { cancel() })); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled during: %v", err)
	}
	defer func() {
		if reason := recover(); reason != "from inside" {
			t.Errorf("recovered %v", reason)
		}
	}()
	GetRanges(deadline(t), servers.hostile+"/good", ranges, func(int) { panic("from inside") })
	t.Error("the panic did not come through")
}

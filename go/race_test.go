//go:build race

package pget

// The race detector's own memory grows with the goroutines that there were.
const raceDetector = true

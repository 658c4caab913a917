//go:build race

package pget

// The race detector's own memory grows with the number of goroutines that have existed.
const raceDetector = true

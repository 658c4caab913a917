//go:build !race

package pget

const raceDetector = false

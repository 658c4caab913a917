//go:build !pget_workspace && !pget_static

package pget

// #cgo pkg-config: pget
import "C"

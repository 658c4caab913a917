//go:build pget_workspace && !pget_static

package pget

// #cgo CFLAGS: -I${SRCDIR}/../include
// #cgo LDFLAGS: -L${SRCDIR}/../target/release -lpget -Wl,-rpath,${SRCDIR}/../target/release
import "C"

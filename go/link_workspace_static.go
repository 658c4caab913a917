//go:build pget_workspace && pget_static

package pget

// #cgo CFLAGS: -I${SRCDIR}/../include
// #cgo LDFLAGS: -L${SRCDIR}/../target/release -l:libpget.a -lgcc_s -lutil -lrt -lpthread -lm -ldl
import "C"

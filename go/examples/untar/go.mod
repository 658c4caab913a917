module pget/examples/untar

go 1.26

require (
	github.com/klauspost/compress v1.19.2
	pget v0.0.0
)

replace pget => ../..

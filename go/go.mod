module pget

go 1.26

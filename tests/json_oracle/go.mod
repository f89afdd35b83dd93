module json_oracle

go 1.22

// The version that the reference server uses.
require google.golang.org/protobuf v1.36.1

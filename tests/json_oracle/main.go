// Answers each line "<message> <payload in hex>" with the payload as Go's protojson writes it, on one line
// without spaces between tokens; "malformed" or "unprintable" when it has no such form.
//
// The argument is the file of the compiled FileDescriptorSet. Run by tests/json_properties.rs.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const longestLine = 1 << 24

func main() {
	schema, err := load(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	answers := bufio.NewWriter(os.Stdout)
	defer answers.Flush()
	for lines.Scan() {
		name, digits, _ := strings.Cut(lines.Text(), " ")
		payload, err := hex.DecodeString(digits)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprintln(answers, render(schema, protoreflect.FullName(name), payload))
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}

func load(path string) (*protoregistry.Files, error) {
	encoded, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var files descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(encoded, &files); err != nil {
		return nil, err
	}
	return protodesc.NewFiles(&files)
}

func render(schema *protoregistry.Files, name protoreflect.FullName, payload []byte) string {
	descriptor, err := schema.FindDescriptorByName(name)
	if err != nil {
		log.Fatal(err)
	}
	message := dynamicpb.NewMessage(descriptor.(protoreflect.MessageDescriptor))
	if proto.Unmarshal(payload, message) != nil {
		return "malformed"
	}
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(message)
	if err != nil {
		return "unprintable"
	}
	// Depending on the build, protojson puts spaces between tokens.
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		log.Fatal(err)
	}
	return compact.String()
}

// Lints what cannot run without a container engine: a kind configuration against kind's own types,
// and a workflow with actionlint. Usage: lint CLUSTER.yaml WORKFLOW.yaml
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: lint CLUSTER.yaml WORKFLOW.yaml")
		os.Exit(2)
	}
	ok := true
	if err := cluster(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		ok = false
	}
	if err := workflow(os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[2], err)
		ok = false
	}
	if !ok {
		os.Exit(1)
	}
}

// As kind reads it: no field that it does not know.
func cluster(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var config v1alpha4.Cluster
	if err := decoder.Decode(&config); err != nil {
		return err
	}
	if config.Kind != "Cluster" || config.APIVersion != "kind.x-k8s.io/v1alpha4" {
		return fmt.Errorf("is a %s of %s", config.Kind, config.APIVersion)
	}
	return nil
}

func workflow(path string) error {
	options := actionlint.LinterOptions{Shellcheck: "", Pyflakes: ""}
	linter, err := actionlint.NewLinter(os.Stderr, &options)
	if err != nil {
		return err
	}
	found, err := linter.LintFile(path, nil)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%d faults", len(found))
	}
	return nil
}

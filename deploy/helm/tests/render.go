// Renders the chart as `helm template` does, where there is no helm: the same template engine (Go's text/template) and
// the same functions (sprig, and Helm's own few, as in Helm's pkg/engine). A value that is missing is an error, as with
// `--strict`. It knows no subcharts, hooks or `lookup`.
//
//	render CHART CONTEXT.json   (what templates see: Values, Chart, Release, Capabilities, Template)
//
// Writes a JSON object: the file's name to what came out.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

// Numbers come from JSON as float64, and Helm has them so, too. Its YAML writes whole ones as such.
func whole(value interface{}) interface{} {
	switch value := value.(type) {
	case float64:
		if value == math.Trunc(value) && math.Abs(value) < 1e15 {
			return int64(value)
		}
	case map[string]interface{}:
		out := map[string]interface{}{}
		for key, item := range value {
			out[key] = whole(item)
		}
		return out
	case []interface{}:
		out := make([]interface{}, len(value))
		for i, item := range value {
			out[i] = whole(item)
		}
		return out
	}
	return value
}

func toYaml(value interface{}) (string, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	err := encoder.Encode(whole(value))
	return strings.TrimSuffix(out.String(), "\n"), err
}

func functions(all *template.Template) template.FuncMap {
	functions := sprig.TxtFuncMap()
	delete(functions, "env")
	delete(functions, "expandenv")
	depth := map[string]int{}
	functions["toYaml"] = toYaml
	functions["include"] = func(name string, data interface{}) (string, error) {
		if depth[name] > 1000 {
			return "", errors.New("include of " + name + " goes round in a circle")
		}
		depth[name]++
		defer func() { depth[name]-- }()
		var out strings.Builder
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if text, is := value.(string); value == nil || is && text == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	functions["fail"] = func(message string) (string, error) { return "", errors.New(message) }
	return functions
}

func render(chart string, context map[string]interface{}) (map[string]string, error) {
	all := template.New("chart").Option("missingkey=error")
	all.Funcs(functions(all))
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if _, err := all.New(filepath.Base(file)).Parse(string(text)); err != nil {
			return nil, err
		}
	}
	rendered := map[string]string{}
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var out strings.Builder
		if err := all.ExecuteTemplate(&out, name, context); err != nil {
			return nil, err
		}
		rendered[name] = out.String()
	}
	return rendered, nil
}

func main() {
	text, err := os.ReadFile(os.Args[2])
	var context map[string]interface{}
	if err == nil {
		err = json.Unmarshal(text, &context)
	}
	var rendered map[string]string
	if err == nil {
		// `.Capabilities.KubeVersion.Version` and the like are plain members here, not methods.
		rendered, err = render(os.Args[1], context)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(rendered)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

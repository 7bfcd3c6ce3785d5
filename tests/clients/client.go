package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

const base = "http://169.254.169.254"

func tell(answer *http.Response, err error) {
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, string(text), err)
}

func main() {
	tell(http.Get(base + "/get?a=b"))
	tell(http.Get(base + "/missing"))
	tell(http.Head(base + "/head"))
	tell(http.Post(base+"/post", "text/plain", strings.NewReader("hello")))
	tell(http.Post(base+"/chunks", "text/plain", io.MultiReader(strings.NewReader("hello"), strings.NewReader("you"))))
}

// billing PORT answers with its process id.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	answer := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) }
	fmt.Println(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(answer)))
}

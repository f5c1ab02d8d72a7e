// An ordinary Go server: a goroutine for each connection, a read deadline that each read moves, or, if it is told
// `short`, none.
package main

import (
	"log"
	"net"
	"os"
	"time"
)

const timeout = 5 * time.Second

func serve(connection net.Conn, short bool) {
	defer connection.Close()
	if err := connection.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return
	}
	buffer := make([]byte, 1024)
	for {
		if !short {
			if err := connection.SetReadDeadline(time.Now().Add(timeout)); err != nil {
				return
			}
		}
		if _, err := connection.Read(buffer); err != nil {
			return
		}
	}
}

func main() {
	short := len(os.Args) > 2 && os.Args[2] == "short"
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Print(err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go serve(connection, short)
	}
}

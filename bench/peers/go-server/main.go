// An ordinary Go server: a goroutine for each connection, a read deadline that each read moves.
package main

import (
	"log"
	"net"
	"os"
	"time"
)

func serve(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, 1024)
	for {
		if err := connection.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return
		}
		if _, err := connection.Read(buffer); err != nil {
			return
		}
	}
}

func main() {
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
		go serve(connection)
	}
}

// A device plugin for devices that do not exist: it registers them with this node's kubelet and
// gives each container what its configuration says.
//
// Usage: deviceplugin CONFIGURATION, a JSON file; see type configuration.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

type configuration struct {
	Resource string // such as nvidia.com/gpu
	Count    int
	Variable string            // environment variable that lists the devices of a container
	Mounts   map[string]string // path in the container: folder of the node, read-only
}

type plugin struct {
	api.UnimplementedDevicePluginServer
	configuration
	stop chan struct{}
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	devices := make([]*api.Device, p.Count)
	for i := range devices {
		devices[i] = &api.Device{ID: fmt.Sprint(i), Health: api.Healthy}
	}
	if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
	case <-p.stop:
	}
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		given := &api.ContainerAllocateResponse{
			Envs: map[string]string{p.Variable: strings.Join(container.DevicesIds, ",")},
		}
		for inside, outside := range p.Mounts {
			given.Mounts = append(given.Mounts, &api.Mount{
				ContainerPath: inside, HostPath: outside, ReadOnly: true,
			})
		}
		response.ContainerResponses = append(response.ContainerResponses, given)
	}
	return response, nil
}

// register serves the plugin and makes the kubelet know it; it returns when the kubelet has started
// afresh, which shows as its socket being another file, and wants to be told again.
func register(c configuration) error {
	name := strings.ReplaceAll(c.Resource, "/", "-") + ".sock"
	socket := filepath.Join(api.DevicePluginPath, name)
	kubelet, err := os.Stat(api.KubeletSocket)
	if err != nil {
		return err
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	p := &plugin{configuration: c, stop: make(chan struct{})}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, p)
	go server.Serve(listener)
	defer server.Stop()
	defer close(p.stop)
	connection, err := grpc.NewClient("unix:"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = api.NewRegistrationClient(connection).Register(context.Background(), &api.RegisterRequest{
		Version: api.Version, Endpoint: name, ResourceName: c.Resource,
	})
	if err != nil {
		return err
	}
	log.Printf("registered %d of %s", c.Count, c.Resource)
	for {
		time.Sleep(200 * time.Millisecond)
		// A new kubelet removes every socket of its folder, and may get its own under the old inode.
		if _, err := os.Stat(socket); err != nil {
			return err
		}
		now, err := os.Stat(api.KubeletSocket)
		if err != nil || !os.SameFile(kubelet, now) || !now.ModTime().Equal(kubelet.ModTime()) {
			return err
		}
	}
}

func main() {
	content, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var c configuration
	if err := json.Unmarshal(content, &c); err != nil {
		log.Fatal(err)
	}
	for {
		if err := register(c); err != nil {
			log.Print(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

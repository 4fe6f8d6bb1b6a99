// What bench/studies/simgrid.py changes in SimGrid 3.32, so that its rule holds for everybody (loaded by LD_PRELOAD):
// a blocking send costs its sender the overhead, as a non-blocking one does. SimGrid charges only sends that return
// before they are done, and lets MPI_Send of a large message go free.
#include <smpi/mpi.h>

namespace simgrid {
namespace smpi {
class Comm;
class Datatype;
class Request {
public:
  static void send(const void* buffer, int count, Datatype* type, int target, int tag, Comm* comm);
  static Request* isend(const void* buffer, int count, Datatype* type, int target, int tag, Comm* comm);
  static int wait(Request** request, MPI_Status* status);
};
} // namespace smpi
} // namespace simgrid

void simgrid::smpi::Request::send(const void* buffer, int count, Datatype* type, int target, int tag, Comm* comm)
{
  Request* request = isend(buffer, count, type, target, tag, comm);
  wait(&request, MPI_STATUS_IGNORE);
}
